//! What clients see: resources, deltas and frames as JSON. Changes here only add.

mod delta;
mod frame;

pub use delta::Delta;
pub use frame::{ClientFrame, ErrorCode, ResumeReason, ServerFrame};
