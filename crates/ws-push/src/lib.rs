//! tidings-ws-push
