//! What goes over the wire, apart from I/O: addresses, the handshake, frames, and the fields of a message.

pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod template;
pub(crate) mod url;
