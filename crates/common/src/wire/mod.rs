//! What clients see: resources, deltas and frames as JSON. Changes here only add.

mod delta;
mod frame;
mod reading;
mod request;
mod resource;
mod sync;

pub use delta::Delta;
pub use frame::{ClientFrame, ErrorCode, ResumeReason, ServerFrame};
pub use reading::{ChannelReading, MarkRead, Reader};
pub use request::{
    CreateChannel, CreateGroup, CreateSession, CreateUser, EditMessage, Empty, PutMember,
    RefreshSession, SendMessage, UpdateChannel, UpdateGroup, UpdateMember, UpdateUser,
};
pub use resource::{
    Channel, ChannelRef, Group, List, Member, Message, Reaction, RealtimeTicket, Session, Tokens,
    User,
};
pub use sync::{Reset, ResetReason, SyncAnswer, SyncRequest};
