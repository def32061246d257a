//! A name server that says what a test wants.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

/// What it says about a name.
#[derive(Debug, Clone)]
pub enum Say {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    Failure,
    Nothing,
}

impl Say {
    pub fn addresses(addresses: &[&str]) -> Self {
        Self::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

/// A running name server.
pub struct NameServer {
    pub address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Say>>>,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            names: Arc::default(),
        };
        let names = Arc::clone(&server.names);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let Ok(question) = Message::from_vec(&buffer[..length]) else {
                    continue;
                };
                if let Some(answer) = answer(&question, &names.lock().unwrap()) {
                    let _ = socket.send_to(&answer.to_vec().unwrap(), client);
                }
            }
        });
        server
    }

    /// From now on.
    pub fn say(&self, name: &str, say: Say) {
        self.names.lock().unwrap().insert(format!("{name}."), say);
    }

    pub fn argument(&self) -> String {
        self.address.to_string()
    }
}

fn answer(question: &Message, names: &HashMap<String, Say>) -> Option<Message> {
    let query = question.queries.first()?;
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match names.get(&query.name().to_lowercase().to_string()) {
        Some(Say::Nothing) => return None,
        Some(Say::Failure) => answer.metadata.response_code = ResponseCode::ServFail,
        None | Some(Say::NoSuchName) => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Say::Addresses(addresses)) => {
            for address in addresses {
                let data = match (query.query_type(), address) {
                    (RecordType::A, IpAddr::V4(address)) => RData::A((*address).into()),
                    (RecordType::AAAA, IpAddr::V6(address)) => RData::AAAA((*address).into()),
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), 30, data));
            }
        }
    }
    Some(answer)
}
