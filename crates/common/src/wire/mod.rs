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
    CompareBuckets, CreateChannel, CreateGroup, CreateInvite, CreateSession, CreateUser,
    EditMessage, Empty, MuteMember, PutMember, QueryPresence, RefreshSession, SendMessage,
    UpdateChannel, UpdateGroup, UpdateMember, UpdateUser,
};
pub use resource::{
    Ban, Bucket, BucketsCompared, Channel, ChannelRef, EditLease, Group, GroupPresence, Invite,
    InvitePreview, LeaseRef, List, Member, Message, PresenceStates, Quote, Reaction, Reactor,
    RealtimeTicket, Session, Tokens, User, UserPresence,
};
pub use sync::{PollRequest, Reset, ResetReason, SyncAnswer, SyncRequest};
