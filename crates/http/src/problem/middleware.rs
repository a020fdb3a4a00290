//! Gives the framework's own refusals (unknown route, wrong method, failed extractors of its
//! own) the shape of problems. Parse errors before a request exists (400, 431) are answered by
//! the HTTP layer with an empty body, out of reach of any middleware.

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;

use super::{CONTENT_TYPE, Problem};

/// Middleware (`actix_web::middleware::from_fn`) that turns every 4xx and 5xx of the framework
/// into a problem, keeping its `Allow`.
///
/// # Errors
///
/// Passes on those of the wrapped service, as problems.
pub async fn render_all(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = match next.call(request).await {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) if error.as_error::<Problem>().is_some() => return Err(error),
        Err(error) => {
            let status = error.as_response_error().status_code();
            return Err(Problem::of_status(status, Some(error.to_string())).into());
        }
    };
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    if !is_refusal || is_rendered(&response) {
        return Ok(response);
    }
    let cause = response.response().error().map(ToString::to_string);
    let mut problem = Problem::of_status(status, cause);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.0.allow = allow.to_str().ok().map(ToOwned::to_owned);
    }
    Ok(response.error_response(problem))
}

/// The framework's own refusals are empty or plain text. What is JSON was made by a handler:
/// a problem, or a report such as that of `/readyz`.
fn is_rendered(response: &ServiceResponse) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(CONTENT_TYPE.as_bytes()) || value.starts_with(b"application/json")
    })
}
