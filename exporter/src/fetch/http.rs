//! The part of HTTP/1.1 that it takes to get a document ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112)).
//!
//! A client library keeps two buffers and a task for each connection, some 20 KiB; here an idle connection is a socket and
//! nothing else. That is what lets hundreds of targets keep theirs.

use std::ops::Range;

/// Room for the head of an answer, informational ones before it included.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// An answer may have so many headers.
const MAX_HEADERS: usize = 100;
/// The line in front of a chunk may be this long.
const MAX_CHUNK_LINE: usize = 1024;

/// An answer that breaks the protocol, told in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken(pub(super) String);

fn broken<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(what.into()))
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// Whether the server is going to answer again on this connection.
    pub(super) keep: bool,
    pub(super) location: Option<String>,
    /// Any coding but `identity`.
    pub(super) coding: Option<String>,
    /// Bytes of the head, with those of informational answers before it.
    pub(super) length: usize,
}

/// Looks for the end of a head while it comes in.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Informational answers that were passed over.
    begin: usize,
    /// So far there is no end of a head.
    searched: usize,
}

impl HeadReader {
    /// The head, once all of it is there. `answer` is everything that came so far.
    pub(super) fn read(&mut self, answer: &[u8]) -> Result<Option<Head>, Broken> {
        loop {
            // Without that search a server that sends byte by byte would have each of them parsed again.
            let from = self.searched.saturating_sub(3).max(self.begin);
            let end = answer[from..].windows(2).position(|window| window == b"\n\n");
            let end = end.or_else(|| answer[from..].windows(4).position(|window| window == b"\r\n\r\n"));
            self.searched = answer.len();
            if end.is_none() {
                return if answer.len() > MAX_HEAD {
                    broken(format!("the head is longer than {MAX_HEAD} bytes"))
                } else if answer.len() >= 5 + self.begin && !answer[self.begin..].starts_with(b"HTTP/") {
                    broken("the answer does not begin with HTTP/")
                } else {
                    Ok(None)
                };
            }
            let mut head = parse(&answer[self.begin..])?;
            head.length += self.begin;
            if head.length > MAX_HEAD {
                return broken(format!("the head is longer than {MAX_HEAD} bytes"));
            }
            if (100..200).contains(&head.status) {
                if head.status == 101 {
                    return broken("the server wants to speak another protocol");
                }
                self.begin = head.length;
                self.searched = self.begin;
                continue;
            }
            return Ok(Some(head));
        }
    }
}

fn parse(answer: &[u8]) -> Result<Head, Broken> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(answer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return broken("the head has no end"),
        Err(error) => return broken(error.to_string()),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return broken("the head has no status");
    };
    let mut content_length = None;
    let mut chunked = false;
    let mut close = version == 0;
    let mut location = None;
    let mut coding = None;
    for header in response.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value).map(str::trim) else {
            continue;
        };
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            // A list of equal lengths is one length (section 6.3).
            for value in value.split(',').map(str::trim) {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let Some(number) = digits.then(|| value.parse::<u64>().ok()).flatten() else {
                    return broken(format!("the length is {value:?}"));
                };
                if content_length.is_some_and(|known| known != number) {
                    return broken("the answer has two lengths");
                }
                content_length = Some(number);
            }
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case("chunked") {
                return broken(format!("the transfer encoding is {value:?}"));
            }
            chunked = true;
        } else if is("connection") {
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    close = true;
                } else if option.eq_ignore_ascii_case("keep-alive") && version == 0 {
                    close = false;
                }
            }
        } else if is("location") {
            location = Some(value.to_owned());
        } else if is("content-encoding") && !value.eq_ignore_ascii_case("identity") {
            coding = Some(value.to_owned());
        }
    }
    let framing = match (status, chunked, content_length) {
        (204 | 304, ..) => Framing::Length(0),
        // Whoever sends both may mean either.
        (_, true, Some(_)) => return broken("the answer has a length and is chunked"),
        (_, true, None) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClosed,
    };
    Ok(Head {
        status,
        framing,
        keep: !close && framing != Framing::UntilClosed,
        location,
        coding,
        length,
    })
}

/// Takes the chunks of a body apart, in the buffer that they come into.
#[derive(Debug)]
pub(super) struct Chunks {
    /// The body so far.
    body: Range<usize>,
    /// Where the bytes begin that were not looked at.
    unread: usize,
    state: State,
    /// Bytes of the trailer section, which is read for its end alone.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A chunk's length comes.
    Size,
    /// So many bytes of a chunk come.
    Data(usize),
    /// The line end behind a chunk comes.
    DataEnd,
    /// Lines of the trailer section come, the last of them empty.
    Trailer,
    Done,
}

impl Chunks {
    /// For a body that begins at this place of the buffer.
    pub(super) fn new(begin: usize) -> Self {
        Self {
            body: begin..begin,
            unread: begin,
            state: State::Size,
            trailers: 0,
        }
    }

    /// The body so far. It is complete when `read` said so.
    pub(super) fn body(&self) -> Range<usize> {
        self.body.clone()
    }

    /// Whether something came behind the body.
    pub(super) fn has_rest(&self, buffer: &[u8]) -> bool {
        self.unread < buffer.len()
    }

    /// Looks at what came, and says whether it was all. Then the body lies in one piece, and what is behind it can be
    /// overwritten but for what was not looked at.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Broken> {
        loop {
            let rest = &buffer[self.unread..];
            match self.state {
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        let Ok(size) = usize::try_from(size) else {
                            return broken("a chunk is too large");
                        };
                        self.unread += length;
                        self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if rest.len() <= MAX_CHUNK_LINE => break,
                    Ok(httparse::Status::Partial) | Err(_) => return broken("a chunk has no length"),
                },
                State::Data(left) => {
                    let here = left.min(rest.len());
                    if here == 0 {
                        break;
                    }
                    buffer.copy_within(self.unread..self.unread + here, self.body.end);
                    self.body.end += here;
                    self.unread += here;
                    self.state = if here == left {
                        State::DataEnd
                    } else {
                        State::Data(left - here)
                    };
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.unread += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return broken("a chunk is longer than its length"),
                },
                State::Trailer => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        if self.trailers + rest.len() > MAX_HEAD {
                            return broken("the trailers are too long");
                        }
                        break;
                    };
                    self.unread += end + 1;
                    self.trailers += end + 1;
                    if self.trailers > MAX_HEAD {
                        return broken("the trailers are too long");
                    }
                    if matches!(&rest[..end], [] | [b'\r']) {
                        self.state = State::Done;
                    }
                }
                State::Done => return Ok(true),
            }
        }
        // What came is moved to the end of the body, so that the buffer grows no longer than that.
        let left = buffer.len() - self.unread;
        buffer.copy_within(self.unread.., self.body.end);
        buffer.truncate(self.body.end + left);
        self.unread = self.body.end;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Broken> {
        HeadReader::default().read(text.as_bytes())
    }

    fn whole(text: &str) -> Head {
        head(text).unwrap().unwrap()
    }

    #[test]
    fn the_head_says_how_the_body_ends() {
        for (text, framing, keep) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClosed, false),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", Framing::Length(0), true),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
                Framing::Length(5),
                true,
            ),
        ] {
            let head = whole(text);
            assert_eq!(
                (head.framing, head.keep, head.length),
                (framing, keep, text.len()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn informational_answers_are_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let head = whole(text);
        assert_eq!((head.status, head.length), (200, text.len() - 1));
        assert_eq!(self::head("HTTP/1.1 100 Continue\r\n\r\n"), Ok(None));
    }

    #[test]
    fn other_headers_are_kept_where_they_matter() {
        let head = whole("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Encoding: gzip\r\nX: \u{fc}\r\n\r\n");
        assert_eq!(
            (head.location.as_deref(), head.coding.as_deref()),
            (Some("/x"), Some("gzip"))
        );
        assert_eq!(
            whole("HTTP/1.1 200 OK\r\nContent-Encoding: Identity\r\n\r\n").coding,
            None
        );
    }

    #[test]
    fn broken_heads_are_refused() {
        for (text, what) in [
            ("220 mail ESMTP\r\n", "does not begin with HTTP/"),
            ("HTTP/2 200\r\n\r\n", "version"),
            ("HTTP/1.1 abc\r\n\r\n", "status"),
            ("HTTP/1.1 101 Switching\r\n\r\n", "another protocol"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "two lengths",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "length is \"-5\""),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "length is \"+5\""),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "length is \"\""),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "has a length and is chunked",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "transfer encoding is",
            ),
            ("HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n", "header name"),
        ] {
            let error = head(text).unwrap_err();
            assert!(error.0.contains(what), "{text:?}: {error:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(head(&long).unwrap_err().0.contains("longer than"));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
        assert!(head(&many).unwrap_err().0.contains("too many headers"));
        let hints = "HTTP/1.1 103 Hints\r\n\r\n".repeat(MAX_HEAD / 20);
        assert!(head(&hints).unwrap_err().0.contains("longer than"));
    }

    /// Reads a chunked body that comes in these pieces.
    fn chunks(pieces: &[&[u8]]) -> Result<Option<Vec<u8>>, Broken> {
        let mut buffer = b"head".to_vec();
        let mut chunks = Chunks::new(4);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            if chunks.read(&mut buffer)? {
                return Ok(Some(buffer[chunks.body()].to_vec()));
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_become_one_body() {
        assert_eq!(chunks(&[b"0\r\n\r\n"]), Ok(Some(vec![])));
        assert_eq!(
            chunks(&[b"3;a=b\r\nabc\r\n", b"A\r\n0123456789\r\n0\r\nT: x\r\n\r\n"]),
            Ok(Some(b"abc0123456789".to_vec()))
        );
        assert_eq!(chunks(&[b"3\r\nabc\r\n0\r\n"]), Ok(None));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for (text, what) in [
            ("x\r\n", "no length"),
            ("3\r\nabcd\r\n", "longer than its length"),
            ("ffffffffffffffffff\r\n", "no length"),
        ] {
            assert!(chunks(&[text.as_bytes()]).unwrap_err().0.contains(what), "{text:?}");
        }
        let extension = format!("1;{}", "x".repeat(MAX_CHUNK_LINE));
        assert!(chunks(&[extension.as_bytes()]).unwrap_err().0.contains("no length"));
        let trailers = format!("0\r\n{}", "T: x\r\n".repeat(MAX_HEAD / 5));
        assert!(chunks(&[trailers.as_bytes()]).unwrap_err().0.contains("trailers"));
        let trailer = format!("0\r\nT: {}", "x".repeat(MAX_HEAD));
        assert!(chunks(&[trailer.as_bytes()]).unwrap_err().0.contains("trailers"));
    }

    proptest! {
        /// Where the network cuts the answer makes no difference.
        #[test]
        fn any_cut_gives_the_same(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
                                  cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let mut text = Vec::new();
            for part in &parts {
                text.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(chunks(&pieces), Ok(Some(parts.concat())));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1).min(bytes.len());
            let _ = chunks(&[&bytes[..cut], &bytes[cut..]]);
            let mut reader = HeadReader::default();
            if reader.read(&bytes[..cut]).is_ok() {
                let _ = reader.read(&bytes);
            }
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            answer.extend_from_slice(&bytes);
            answer.extend_from_slice(b"\r\n\r\n");
            let _ = HeadReader::default().read(&answer);
        }
    }
}
