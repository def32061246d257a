//! Free ports on loopback, kept for a program until it starts.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::Error;
use crate::crypto::random_text;

/// A port that is bound, but not listened on: nobody else gets it, and connections to it are refused.
#[derive(Debug)]
pub(crate) struct Reserved {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// Takes a free port below the ranges from which systems number outgoing connections and Kubernetes node ports.
    pub(crate) fn new() -> Result<Self, Error> {
        const ATTEMPTS: u32 = 50;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let digits = random_text(4, b"0123456789abcdef")?;
            let offset = u16::from_str_radix(&digits, 16).unwrap_or_default() % 10_000;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + offset));
            let bound = TcpSocket::new_v4().and_then(|socket| socket.bind(address).map(|()| socket));
            match bound {
                Ok(socket) => return Ok(Self { socket, address }),
                Err(error) => last = error.to_string(),
            }
        }
        Err(Error::Internal {
            action: "find a free port between 20000 and 29999 on 127.0.0.1".to_owned(),
            message: format!("{ATTEMPTS} of them were refused; the last answer was: {last}"),
            next: "end programs that listen there".to_owned(),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the port up for the program that is about to listen on it.
    pub(crate) fn release(self) -> SocketAddr {
        drop(self.socket);
        self.address
    }
}
