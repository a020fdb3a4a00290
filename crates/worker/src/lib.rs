//! tidings-worker
