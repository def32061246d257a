use std::net::SocketAddr;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, Request as HttpRequest};
use axum::response::Response;

use super::answer::Answer;
use super::memory::Memory;
use super::request::Request;
use super::{BODY_LIMIT, ClusterEndpoint};
use crate::services::http::{Upstream, UpstreamError};
use crate::services::{Credentials, Error};

/// Headers that concern one connection only (RFC 9110, section 7.6.1), and the question for permission to send a body,
/// which the proxy itself has answered.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What rules work with.
#[derive(Debug)]
pub(super) struct Context {
    upstream: Upstream,
    pub(super) credentials: Credentials,
    pub(super) cluster: ClusterEndpoint,
    pub(super) memory: Memory,
}

impl Context {
    pub(super) fn new(
        emulator: SocketAddr,
        credentials: Credentials,
        cluster: ClusterEndpoint,
        memory: &Path,
    ) -> Result<Self, Error> {
        Ok(Self {
            upstream: Upstream::new(emulator),
            credentials,
            cluster,
            memory: Memory::open(memory)?,
        })
    }

    /// Asks the emulator and passes its answer on while it comes.
    pub(super) async fn stream(&self, mut request: Request, body: Body) -> Result<Response, UpstreamError> {
        remove_hop_by_hop(&mut request.parts.headers);
        let mut response = self.upstream.send(HttpRequest::from_parts(request.parts, body)).await?;
        remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// Asks the emulator and reads its answer.
    pub(super) async fn ask(&self, mut request: Request) -> Result<Answer, UpstreamError> {
        // The body may be another one by now, and the answer must be readable.
        request.parts.headers.remove(CONTENT_LENGTH);
        request.parts.headers.remove(ACCEPT_ENCODING);
        let body = Body::from(std::mem::take(&mut request.body));
        let (parts, body) = self.stream(request, body).await?.into_parts();
        let body = to_bytes(body, BODY_LIMIT).await.map_err(UpstreamError::body)?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
