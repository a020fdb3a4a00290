//! The whole route table. (Each handler's attribute says its method and path; what is listed
//! here is mounted, and described in the OpenAPI document.)

use actix_web::HttpRequest;
use actix_web::dev::HttpServiceFactory;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource};
use tidings_http::Problem;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa_actix_web::service_config::ServiceConfig as Described;
use utoipa_swagger_ui::SwaggerUi;

use crate::routes::{
    bans, buckets, channels, edit_leases, groups, invites, members, messages, pins, presence,
    reactions, reading, realtime, sessions, users,
};

/// What the API answers, in the order in which it is tried: `/v1/users/me` before
/// `/v1/users/{user}`.
pub(crate) fn table(config: &mut Described<'_>) {
    config
        .service(users::create_user)
        .service(users::find_user)
        .service(users::get_me)
        .service(users::update_me)
        .service(users::get_user)
        .service(sessions::create_session)
        .service(sessions::refresh_session)
        .service(sessions::list_sessions)
        .service(sessions::delete_session)
        .service(groups::create_group)
        .service(groups::list_groups)
        .service(groups::get_group)
        .service(groups::update_group)
        .service(groups::delete_group)
        .service(edit_leases::get_edit_lease)
        .service(edit_leases::put_edit_lease)
        .service(edit_leases::delete_edit_lease)
        .service(groups::put_direct)
        .service(members::list_members)
        .service(members::put_member)
        .service(members::update_member)
        .service(members::delete_member)
        .service(members::mute_member)
        .service(members::unmute_member)
        .service(bans::list_bans)
        .service(bans::get_ban)
        .service(bans::put_ban)
        .service(bans::delete_ban)
        .service(invites::create_invite)
        .service(invites::list_invites)
        .service(invites::delete_invite)
        .service(invites::preview_invite)
        .service(invites::join_by_invite)
        .service(channels::create_channel)
        .service(channels::get_channel)
        .service(channels::update_channel)
        .service(channels::delete_channel)
        .service(channels::start_typing)
        .service(messages::send_message)
        .service(messages::list_messages)
        .service(messages::get_message)
        .service(messages::edit_message)
        .service(messages::delete_message)
        .service(reactions::put_reaction)
        .service(reactions::delete_reaction)
        .service(reactions::list_reactors)
        .service(pins::put_pin)
        .service(pins::delete_pin)
        .service(pins::list_pins)
        .service(buckets::get_bucket)
        .service(buckets::compare_buckets)
        .service(reading::mark_read)
        .service(reading::list_readers)
        .service(presence::query_presence)
        .service(presence::get_group_presence)
        .service(realtime::sync)
        .service(realtime::create_ticket);
}

/// Mounts the table, its description, and 405 for its paths' other methods.
pub(crate) fn mount(config: &mut ServiceConfig, openapi: &OpenApi) {
    table(&mut Described::new(config));
    config
        .service(web::redirect("/docs", "/docs/"))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", openapi.clone()));
    for (path, item) in &openapi.paths.paths {
        config.service(other_methods(path, item));
    }
}

/// Catches what the services before it passed over, whose paths fit but not their methods.
fn other_methods(path: &str, item: &PathItem) -> impl HttpServiceFactory + 'static {
    let allow = methods_of(item).join(", ");
    Resource::new(path).to(move |request: HttpRequest| {
        let allow = allow.clone();
        async move { not_allowed(&request, &allow) }
    })
}

fn not_allowed(request: &HttpRequest, allow: &str) -> Result<HttpResponse, Problem> {
    if request.method() == actix_web::http::Method::OPTIONS {
        let allow = (header::ALLOW, allow.to_owned());
        return Ok(HttpResponse::NoContent().insert_header(allow).finish());
    }
    Err(Problem::method_not_allowed(allow))
}

/// The methods that a path has, for the header `Allow`.
pub(crate) fn methods_of(item: &PathItem) -> Vec<&'static str> {
    let operations = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    let there = operations
        .iter()
        .filter(|(_, operation)| operation.is_some());
    there.map(|(method, _)| *method).collect()
}
