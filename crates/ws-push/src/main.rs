//! tidings-ws-push: delivery as a process of its own.

use std::process::ExitCode;

use tidings_common::config::Binary;
use tidings_http::process;

fn main() -> ExitCode {
    process::main(Binary::WsPush, tidings_ws_push::run)
}
