//! tidings-api: the HTTP API as a process of its own.

use std::process::ExitCode;

use tidings_common::config::Binary;
use tidings_http::process;

fn main() -> ExitCode {
    process::main(Binary::Api, tidings_api::run)
}
