//! What goes over the wire, apart from I/O: addresses, the handshake, frames, and the fields of a message.

pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod template;
pub(crate) mod url;

/// The beginning of what a peer says, safe for a terminal: control characters are escaped.
pub(crate) fn shown(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for character in text.trim().chars().take(longest) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
