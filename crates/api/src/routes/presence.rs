//! Who is there.

use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};
use tidings_common::domain::{GroupId, UserId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};

use super::PageQuery;
use crate::ApiState;
use crate::answer::Answer;
use crate::extract::in_time;
use crate::fields::{Fields, user_id};

/// Users asked about by one request.
const MOST: usize = 200;

/// Whether these users are there. Those with whom the caller shares no group are left out, as if
/// there were no such users. Changes nothing.
#[utoipa::path(
    tag = "presence",
    responses((status = 200, description = "Their states", body = wire::PresenceStates)),
)]
#[post("/v1/presence/query")]
pub(crate) async fn query_presence(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Json(body): Json<wire::QueryPresence>,
) -> Result<HttpResponse, Problem> {
    let users = users(&body)?;
    let found = in_time(state.presence.query(who.user, &users)).await?;
    Ok(Answer::ok().json(wire::PresenceStates {
        items: shown(found),
    }))
}

/// How many of a group's members are there. Of a group with up to `fanout_limit` members also who,
/// ascending by user id; of a larger one a sample.
#[utoipa::path(
    tag = "presence",
    params(("group" = Uuid, Path), PageQuery),
    responses((status = 200, description = "Who is there", body = wire::GroupPresence)),
)]
#[get("/v1/groups/{group}/presence")]
pub(crate) async fn get_group_presence(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.presence.of_group(who.user, group, page)).await?;
    let more = found.page.as_ref().is_some_and(|page| page.more);
    Ok(Answer::ok().json(wire::GroupPresence {
        members: found.members,
        online: found.online,
        items: found.page.map(|page| shown(page.items)),
        more,
        sample: found.sample.map(shown),
    }))
}

fn users(body: &wire::QueryPresence) -> Result<Vec<UserId>, Problem> {
    let mut fields = Fields::default();
    if !(1..=MOST).contains(&body.users.len()) {
        fields.refuse("/users", format!("must be 1 to {MOST}"));
        return fields.finish(None);
    }
    let ids = body.users.iter().enumerate();
    let users = ids.filter_map(|(index, id)| fields.read(format!("/users/{index}"), user_id(id)));
    let users = users.collect();
    fields.finish(Some(users))
}

fn shown(states: Vec<tidings_common::domain::UserPresence>) -> Vec<wire::UserPresence> {
    states.into_iter().map(Into::into).collect()
}
