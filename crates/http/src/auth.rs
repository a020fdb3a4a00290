//! Who is asking: the bearer token of a request.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web::Data};
use tidings_common::auth::{Keys, Principal, SessionCheck, TokenError};
use tidings_common::clock::Clock;

use crate::problem::Problem;

/// Tells who a token stands for. Put one into the application's `Data`.
#[derive(Clone)]
pub struct Authenticator {
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    sessions: Arc<dyn SessionCheck>,
}

impl Authenticator {
    pub fn new(keys: Arc<Keys>, clock: Arc<dyn Clock>, sessions: Arc<dyn SessionCheck>) -> Self {
        Self {
            keys,
            clock,
            sessions,
        }
    }

    /// The principal behind the `Authorization` header.
    ///
    /// # Errors
    ///
    /// 401 `token_expired` if the token was good once, else 401 `unauthenticated`.
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let token = bearer(headers).ok_or_else(Problem::unauthenticated)?;
        self.verify(token)
    }

    /// The principal behind an access token that came by another way than the header.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::principal`].
    pub fn verify(&self, access_token: &str) -> Result<Principal, Problem> {
        let principal = self
            .keys
            .verify_access(access_token, self.clock.now())
            .map_err(|error| match error {
                TokenError::Expired => Problem::token_expired(),
                TokenError::Invalid => Problem::unauthenticated(),
            })?;
        if self.sessions.is_revoked(principal.session) {
            return Err(Problem::unauthenticated().detail("the session has been revoked"));
        }
        Ok(principal)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator(..)")
    }
}

/// The token of the only `Authorization` header, if its scheme is Bearer. Two headers could be
/// read differently by a proxy and by us, so they count as none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// A signed-in user. As an argument of a handler it makes the route refuse everyone else.
#[derive(Debug, Clone, Copy)]
pub struct Authenticated(pub Principal);

impl FromRequest for Authenticated {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let authenticator = request.app_data::<Data<Authenticator>>();
        let principal = match authenticator {
            Some(authenticator) => authenticator.principal(request.headers()),
            None => Err(Problem::internal(&NoAuthenticator)),
        };
        ready(principal.map(|principal| {
            // For the access log.
            request.extensions_mut().insert(principal);
            Self(principal)
        }))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the application has no authenticator in its data")]
struct NoAuthenticator;
