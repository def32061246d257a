//! The cluster's DNS: names of Services, answered with the loopback addresses of their ready pods.
//!
//! For a headless Service that is what CoreDNS does. For another one CoreDNS gives the Service's own address, at which
//! nothing listens here; its pods' addresses serve as well where Service and pods have the same port.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::{TcpListener, UdpSocket};

use super::{Directory, host};
use crate::services::json_lines::JsonLines;
use crate::services::{Error, Shutdown, stopped};

/// For how long an answer may be kept, in seconds: as in the Corefile of EKS.
const TIME_TO_LIVE: u32 = 5;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(5);

/// Answers on both sockets until the shutdown. Questions that could not be answered are written to `log`.
///
/// # Errors
/// A socket failed, or the log cannot be opened.
pub async fn serve(
    (udp, tcp): (UdpSocket, TcpListener),
    directory: Arc<Directory>,
    log: &Path,
    shutdown: Shutdown,
) -> Result<(), Error> {
    const RESPONSES: usize = 16;
    let mut server = Server::new(Handler {
        directory,
        log: JsonLines::open(log)?,
    });
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, RESPONSES);
    let ended = tokio::select! {
        ended = server.block_until_done() => ended,
        () = stopped(shutdown) => Ok(()),
    };
    // Dropped, the server ends everything that is under way; nobody waits for an answer any more.
    ended.map_err(|error| Error::Socket {
        action: "serve DNS",
        source: std::io::Error::other(error.to_string()),
    })
}

struct Handler {
    directory: Arc<Directory>,
    log: JsonLines,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let (code, answers) = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        metadata.authoritative = true;
        let sent = response
            .send_response(MessageResponseBuilder::from_message_request(request).build(metadata, &answers, [], [], []))
            .await;
        // There is nobody to tell: the client has gone, and asks again if it still wants to know.
        sent.unwrap_or_else(|_: NetError| failed(request))
    }
}

impl Handler {
    async fn answer(&self, request: &Request) -> (ResponseCode, Vec<Record>) {
        if request.metadata.op_code != OpCode::Query {
            return (ResponseCode::NotImp, Vec::new());
        }
        let Ok(asked) = request.request_info() else {
            return (ResponseCode::FormErr, Vec::new());
        };
        let name = Name::from(asked.query.name());
        let Some((namespace, service)) = host::service(&name.to_ascii()) else {
            return (ResponseCode::NXDomain, Vec::new());
        };
        let services = match self.directory.services().await {
            Ok(services) => services,
            Err(problem) => {
                self.log
                    .append(&json!({"time": Timestamp::now(), "wanted": name.to_ascii(), "problem": problem}));
                return (ResponseCode::ServFail, Vec::new());
            }
        };
        let addresses: Vec<Ipv4Addr> = services
            .named(&namespace, &service)
            .into_iter()
            .flat_map(|service| &service.endpoints)
            .filter_map(|endpoint| self.directory.network().loopback_of(endpoint.address))
            .collect();
        if addresses.is_empty() {
            // As CoreDNS does for a Service without ready pods, too.
            return (ResponseCode::NXDomain, Vec::new());
        }
        if asked.query.query_class() != DNSClass::IN || asked.query.query_type() != RecordType::A {
            return (ResponseCode::NoError, Vec::new());
        }
        let record = |address| Record::from_rdata(name.clone(), TIME_TO_LIVE, RData::A(A(address)));
        (ResponseCode::NoError, addresses.into_iter().map(record).collect())
    }
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}
