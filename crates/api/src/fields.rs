//! Turns the fields of a body into domain types, and finds everything that is wrong at once.

use tidings_common::domain::{Role, UserId};
use tidings_http::{Problem, Violation};

/// Collects violations while fields are read.
#[derive(Default)]
pub(crate) struct Fields(Vec<Violation>);

impl Fields {
    /// A field's value; None if it is wrong, which is remembered.
    pub(crate) fn read<T, E: ToString>(
        &mut self,
        pointer: impl Into<String>,
        value: Result<T, E>,
    ) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(pointer, error.to_string());
                None
            }
        }
    }

    pub(crate) fn refuse(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Violation::new(pointer, detail));
    }

    /// `value`, which is whole if nothing was wrong.
    ///
    /// # Errors
    ///
    /// 422 with everything that was.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Problem::invalid(self.0)),
        }
    }
}

/// A body with one field to check.
///
/// # Errors
///
/// 422 naming it.
pub(crate) fn only<T, E: ToString>(pointer: &str, value: Result<T, E>) -> Result<T, Problem> {
    let mut fields = Fields::default();
    let value = fields.read(pointer, value);
    fields.finish(value)
}

/// A role that can be given: ownership is not given away like others.
///
/// # Errors
///
/// Says which there are.
pub(crate) fn assignable_role(text: &str) -> Result<Role, &'static str> {
    match text.parse() {
        Ok(role @ (Role::Member | Role::Admin)) => Ok(role),
        Ok(Role::Owner) => Err("ownership is passed on with PATCH"),
        Err(_) => Err("must be \"member\" or \"admin\""),
    }
}

/// A role of a member, ownership included.
///
/// # Errors
///
/// Says which there are.
pub(crate) fn any_role(text: &str) -> Result<Role, &'static str> {
    text.parse()
        .map_err(|_| "must be \"member\", \"admin\" or \"owner\"")
}

/// A whole number from `least` to `most`.
///
/// # Errors
///
/// Says what it must be.
pub(crate) fn whole(value: u64, least: u32, most: u32) -> Result<u32, String> {
    match u32::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("must be {least} to {most}")),
    }
}

/// A user's id.
///
/// # Errors
///
/// Says that it is none.
pub(crate) fn user_id(text: &str) -> Result<UserId, &'static str> {
    text.parse().map_err(|_| "must be the id of a user")
}
