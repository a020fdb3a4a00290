//! Reads request bodies: never more than the limit into memory, never longer than the
//! deadline, and never without an answer that the client can see.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::problem::{Code, Problem};

/// How much of a refused body is read and thrown away. A server that closes while the client
/// still writes resets the connection, and the answer is lost with it.
const DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// How long one body may take to arrive. Past it the request is answered 408.
const DEADLINE: Duration = Duration::from_secs(30);

/// The largest body that is read, in bytes. Set it with `app_data`, for the application or for
/// one scope or resource; the innermost counts. A larger body is answered 413.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

/// The whole body of a request, which the caller has found acceptable otherwise.
///
/// # Errors
///
/// 413 beyond the [`BodyLimit`], 408 beyond the deadline, 400 if the transfer breaks off.
pub async fn read(request: &HttpRequest, payload: &mut Payload) -> Result<Bytes, Problem> {
    let limit = request
        .app_data::<BodyLimit>()
        .copied()
        .unwrap_or_default()
        .0;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let reading = async {
        if announced.is_some_and(|length| length > limit) {
            discard(payload, 0).await;
            return Err(too_large(limit));
        }
        let mut body = BytesMut::with_capacity(announced.unwrap_or_default());
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| broken_off(&error))?;
            if body.len() + chunk.len() > limit {
                discard(payload, body.len() + chunk.len()).await;
                return Err(too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(DEADLINE, reading)
        .await
        .unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout)))
}

/// Reads and throws away the body of a request that is refused with `problem`, which it gives
/// back.
pub(crate) async fn refuse(payload: &mut Payload, problem: Problem) -> Problem {
    match tokio::time::timeout(DEADLINE, discard(payload, 0)).await {
        // The refusal stands either way; a body that does not come is not waited for.
        Ok(()) | Err(_) => problem,
    }
}

async fn discard(payload: &mut Payload, already_read: usize) {
    let mut total = already_read;
    while let Some(Ok(chunk)) = payload.next().await {
        total += chunk.len();
        if total > DISCARDED_BYTES {
            return;
        }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge).detail(format!("at most {limit} bytes are accepted"))
}

fn broken_off(error: &PayloadError) -> Problem {
    tracing::debug!(%error, "a request's body broke off");
    Problem::new(Code::BadRequest).detail("the body is not complete")
}
