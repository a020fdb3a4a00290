//! The OpenAPI document: collected from the route table, completed with what follows from
//! the kind of each route (who may call it, what it may refuse).

use actix_web::App;
use tidings_http::problem::{CONTENT_TYPE, ProblemBody};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, License, OpenApi, Ref, RefOr, Response, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema as _, ToSchema};
use utoipa_actix_web::AppExt as _;

use crate::router::table;

const BEARER: &str = "bearer";

/// The whole document.
#[must_use]
pub(crate) fn document() -> OpenApi {
    let (_, mut openapi) = App::new()
        .into_utoipa_app()
        .configure(table)
        .split_for_parts();
    openapi.info = InfoBuilder::new()
        .title("Tidings")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Changes go in through this API; deltas come out over realtime connections, and \
             through `POST /v1/sync` for whoever was away.",
        ))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let components = openapi.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    components.schemas.extend(schemas);
    openapi.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
    for item in openapi.paths.paths.values_mut() {
        complete(item);
    }
    openapi
}

fn complete(item: &mut PathItem) {
    let operations = [
        (&mut item.get, false),
        (&mut item.post, true),
        (&mut item.put, true),
        (&mut item.patch, true),
        (&mut item.delete, true),
    ];
    for (operation, mutates) in operations {
        if let Some(operation) = operation {
            refusals(operation, mutates);
        }
    }
}

/// Adds the refusals that follow from what a route takes, and gives every refusal its body.
fn refusals(operation: &mut Operation, mutates: bool) {
    let parameters = operation.parameters.iter().flatten();
    let (mut has_path, mut has_query, mut has_key) = (false, false, false);
    let (mut has_version, mut has_lease) = (false, false);
    for parameter in parameters {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        match parameter.parameter_in {
            ParameterIn::Path => has_path = true,
            ParameterIn::Query => has_query = true,
            _ if parameter.name == "If-Match" => has_version = true,
            _ if parameter.name == "Edit-Lease" => has_lease = true,
            _ => has_key = true,
        }
    }
    let has_body = operation.request_body.is_some();
    let is_open = operation.security.is_some();
    let table = [
        (has_body, "400", "The body is not JSON"),
        (!is_open, "401", "A valid access token is needed"),
        (
            has_path && mutates,
            "403",
            "A member, but one who may not do this",
        ),
        (has_path, "404", "No such thing, or not the caller's to see"),
        (
            has_key,
            "409",
            "It conflicts with the present state, or the key was used for another request",
        ),
        (
            has_lease,
            "412",
            "The resource is no longer at this version, or the edit lease has been lost",
        ),
        (
            has_version,
            "412",
            "The resource is no longer at this version",
        ),
        (has_body, "413", "The body is too large"),
        (has_body, "415", "The body is not `application/json`"),
        (
            has_body || has_query || has_key,
            "422",
            "Something in the request is not acceptable",
        ),
        (has_lease, "423", "Somebody holds the edit lease: `holder`"),
        (
            true,
            "503",
            "Unavailable for the moment; repeat with the same key",
        ),
    ];
    let responses = &mut operation.responses.responses;
    for (applies, status, description) in table {
        if applies && !responses.contains_key(status) {
            responses.insert(status.to_owned(), RefOr::T(Response::new(description)));
        }
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            let body = Content::new(Some(Ref::from_schema_name(ProblemBody::name())));
            *response = ResponseBuilder::new()
                .description(response.description.clone())
                .content(CONTENT_TYPE, body)
                .build();
        }
    }
}
