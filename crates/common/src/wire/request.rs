//! Bodies of requests, as they come: not yet checked but for their shape. Unknown fields are
//! refused. Ids and names stay text here, so that what is wrong with them can be said with
//! the place where they stand.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::Seq;

/// `POST /v1/users`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// 2 to 32 of `a-z`, `0-9`, `_`, `.`, `-`; capitals are lowered. Unique.
    #[schema(example = "ada", min_length = 2, max_length = 32)]
    pub username: String,
    #[schema(format = Password, min_length = 8, max_length = 256)]
    pub password: String,
    /// The username if left out.
    #[serde(default)]
    #[schema(example = "Ada", min_length = 1, max_length = 64)]
    pub display_name: Option<String>,
}

/// `PATCH /v1/users/me`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    #[schema(example = "Ada Lovelace", min_length = 1, max_length = 64)]
    pub display_name: String,
}

/// `POST /v1/sessions`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    #[schema(example = "ada")]
    pub username: String,
    #[schema(format = Password)]
    pub password: String,
    /// What to call this device in the list of sessions.
    #[serde(default)]
    #[schema(example = "laptop", min_length = 1, max_length = 64)]
    pub device_name: Option<String>,
}

/// `POST /v1/sessions/refresh`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshSession {
    pub refresh_token: String,
}

/// `POST /v1/groups`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    #[schema(example = "Engine room", min_length = 1, max_length = 100)]
    pub name: String,
    /// Whom to add besides the creator; repetitions, and the creator, count once.
    #[serde(default)]
    #[schema(value_type = Vec<Uuid>, max_items = 1000)]
    pub members: Vec<String>,
}

/// `PATCH /v1/groups/{group}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateGroup {
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
}

/// `PUT /v1/groups/{group}/members/{user}`
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutMember {
    /// `member` or `admin`; left out: `member` for somebody new, unchanged for a member.
    #[serde(default)]
    #[schema(example = "member")]
    pub role: Option<String>,
}

/// `PATCH /v1/groups/{group}/members/{user}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMember {
    /// `member` or `admin`; `owner` passes ownership on.
    #[schema(example = "admin")]
    pub role: String,
}

/// `PUT /v1/groups/{group}/members/{user}/mute`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MuteMember {
    /// Until when the member may not write: a time to come, at most 366 days from now.
    #[schema(format = DateTime)]
    pub until: String,
}

/// `POST /v1/groups/{group}/invites`
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInvite {
    /// How many may join by it; left out: any number.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_uses: Option<u64>,
    /// For how many seconds it can be used; left out: until it is withdrawn.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub expires_in: Option<u64>,
}

/// A body without fields; it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `POST /v1/groups/{group}/channels`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateChannel {
    #[schema(example = "random", min_length = 1, max_length = 100)]
    pub name: String,
}

/// `PATCH /v1/channels/{channel}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateChannel {
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// Seconds that a member must wait between two messages; 0: none.
    #[serde(default)]
    #[schema(maximum = 21_600)]
    pub slow_mode_secs: Option<u64>,
}

/// `POST /v1/channels/{channel}/messages`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// Markdown; 1 to 4,000 Unicode scalar values, not only white space.
    #[schema(example = "Hello, world!", min_length = 1, max_length = 4000)]
    pub content: String,
    /// The same thing as the header `Idempotency-Key`: 1 to 64 visible ASCII characters.
    #[serde(default)]
    #[schema(example = "7f3a", min_length = 1, max_length = 64)]
    pub nonce: Option<String>,
    /// The `seq` of a message of this channel.
    #[serde(default)]
    pub reply_to: Option<Seq>,
}

/// `PATCH /v1/channels/{channel}/messages/{seq}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditMessage {
    #[schema(min_length = 1, max_length = 4000)]
    pub content: String,
}

/// `POST /v1/channels/{channel}/buckets/compare`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareBuckets {
    /// Bucket → the digest that the client holds; 1 to 100 of them.
    #[schema(example = json!({"0": "6b1f…", "1": "e0c2…"}))]
    pub digests: BTreeMap<String, String>,
}

/// `POST /v1/presence/query`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryPresence {
    /// Ids; 1 to 200 of them.
    #[schema(value_type = Vec<Uuid>, min_items = 1, max_items = 200)]
    pub users: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = serde_json::from_str::<UpdateGroup>(r#"{"name":"a","colour":1}"#).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        assert!(serde_json::from_str::<Empty>(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn a_position_is_a_whole_number_from_0() {
        for bad in ["-1", "1.5", "\"1\"", "18446744073709551616"] {
            let body = format!(r#"{{"content":"x","reply_to":{bad}}}"#);
            assert!(serde_json::from_str::<SendMessage>(&body).is_err(), "{bad}");
        }
    }
}
