//! Answers to the publisher's requests (RFC 9112): enough of HTTP/1.1 to find where one ends.

use std::io::{self, BufRead, Error, ErrorKind, Read};

use crate::wire::shown;

/// Largest head, and largest body that is read.
const MAX_HEAD: usize = 16 << 10;
const MAX_BODY: u64 = 1 << 20;
const MAX_HEADERS: usize = 64;
/// How much of a refusal's body is shown.
const SHOWN_BODY: usize = 200;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Why the message was not taken, if it was not.
    pub(super) refused: Option<String>,
    /// Whether the server closes the connection behind it.
    pub(super) last: bool,
}

/// Reads one answer, past those that only announce it (1xx).
///
/// # Errors
/// The connection's end or error, or something that is not HTTP.
pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Answer> {
    loop {
        if let Some(answer) = read_one(reader)? {
            return Ok(answer);
        }
    }
}

fn read_one(reader: &mut impl BufRead) -> io::Result<Option<Answer>> {
    let head = read_head(reader)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&head).map_err(|error| invalid(&format!("not HTTP: {error}")))?;
    let code = response.code.unwrap_or_default();
    if (100..200).contains(&code) {
        return Ok(None);
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let has = |name: &str, token: &str| {
        value(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    // HTTP/1.0 closes unless it says otherwise (RFC 9112 section 9.3).
    let old = response.version == Some(0) && !has("connection", "keep-alive");
    let close = old || has("connection", "close");
    let length = value("content-length").map(str::parse::<u64>);
    let (body, last) = match length {
        _ if code == 204 || code == 304 => (Vec::new(), close),
        _ if has("transfer-encoding", "chunked") => (read_chunks(reader)?, close),
        Some(Ok(length)) if length <= MAX_BODY => (read_exactly(reader, length)?, close),
        Some(_) => return Err(invalid("a content-length that cannot be")),
        None => {
            let mut body = Vec::new();
            reader.take(MAX_BODY).read_to_end(&mut body)?;
            (body, true)
        }
    };
    let refused = (!(200..300).contains(&code)).then(|| {
        let body = shown(&String::from_utf8_lossy(&body), SHOWN_BODY);
        format!("HTTP {code} {}: {body}", response.reason.unwrap_or_default())
    });
    Ok(Some(Answer { refused, last }))
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidData, reason.to_owned())
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let before = head.len();
        reader.by_ref().take((MAX_HEAD - before) as u64).read_until(b'\n', &mut head)?;
        if head.len() == before {
            let reason = if before == MAX_HEAD { "a head over 16 KiB" } else { "the server closed the connection" };
            return Err(Error::new(ErrorKind::UnexpectedEof, reason));
        }
    }
    Ok(head)
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if reader.take(length).read_to_end(&mut body)? as u64 != length {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
    }
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_HEAD as u64).read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let length =
            u64::from_str_radix(digits, 16).ok().filter(|length| length.saturating_add(body.len() as u64) <= MAX_BODY);
        let length = length.ok_or_else(|| invalid("a chunk length that cannot be"))?;
        if length == 0 {
            // The trailer ends with an empty line.
            while line != b"\r\n" && line != b"\n" {
                line.clear();
                if reader.by_ref().take(MAX_HEAD as u64).read_until(b'\n', &mut line)? == 0 {
                    return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
                }
            }
            return Ok(body);
        }
        body.extend(read_exactly(reader, length)?);
        read_exactly(reader, 2)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Vec<Answer> {
        let mut reader = text.as_bytes();
        std::iter::from_fn(|| read(&mut reader).ok()).collect()
    }

    #[test]
    fn answers_follow_each_other() {
        let taken = |last| Answer { refused: None, last };
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{ok}HTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n\
                    HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
        let refused = Answer { refused: Some("HTTP 413 Payload Too Large: big".to_owned()), last: true };
        assert_eq!(answers(text), [taken(false), taken(false), taken(false), refused]);
        assert_eq!(answers("HTTP/1.1 200 OK\r\n\r\nuntil the end"), [taken(true)]);
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answers(hints), [taken(false)]);
        let old = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answers(old), [taken(true)]);
        assert_eq!(answers(&old.replace("OK\r\n", "OK\r\nConnection: foo, Keep-Alive\r\n")), [taken(false)]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200",
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(read(&mut text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(read(&mut "x".repeat(MAX_HEAD + 1).as_bytes()).is_err());
    }
}
