use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::sync::mpsc;

use super::access::{Access, KnownKey, Refusal};
use super::access_log::Entry;
use super::command::GitCommand;
use super::process::{self, Outcome};
use crate::services::deploy_keys::fingerprint;
use crate::services::json_lines::JsonLines;

/// The user of every Git host's SSH address.
const USER: &str = "git";

/// The variable by which a client asks for a version of Git's protocol (git(1), `GIT_PROTOCOL`).
const PROTOCOL_VARIABLE: &str = "GIT_PROTOCOL";

/// One SSH connection.
pub(super) struct Session {
    client: SocketAddr,
    access: Arc<Access>,
    log: JsonLines,
    key: Option<KnownKey>,
    channels: HashMap<ChannelId, OpenChannel>,
    alive: mpsc::Sender<()>,
}

/// A channel on which nothing runs yet.
struct OpenChannel {
    channel: Channel<Msg>,
    protocol: Option<String>,
}

impl Session {
    pub(super) fn new(client: SocketAddr, access: Arc<Access>, log: JsonLines, alive: mpsc::Sender<()>) -> Self {
        Self {
            client,
            access,
            log,
            key: None,
            channels: HashMap::new(),
            alive,
        }
    }

    /// Reads an exec request and runs it beside the connection, which has other channels to serve.
    fn execute(&self, open: OpenChannel, line: &[u8]) {
        let command = GitCommand::parse(line);
        let (client, log, alive) = (self.client, self.log.clone(), self.alive.clone());
        let key = self.key.clone();
        let granted = match (&key, &command) {
            (Some(key), Some(command)) => self.access.grant(key, command),
            (None, _) => Err(Refusal::Revoked),
            (_, None) => Err(Refusal::NotGit),
        };
        // A refused command goes to the log as it came, so it is cut to a length that no request for git has.
        let command = command.map_or_else(
            || String::from_utf8_lossy(line).chars().take(200).collect(),
            |command| command.service.to_string(),
        );
        tokio::spawn(async move {
            let (repository, result) = match granted {
                Ok((granted, repository)) => {
                    let outcome = process::run(open.channel, &granted, open.protocol.as_deref()).await;
                    (Some(repository.to_string()), describe(&outcome))
                }
                Err(refusal) => {
                    let _ = process::refuse(&open.channel, &refusal.to_string()).await;
                    (None, format!("refused: {refusal}"))
                }
            };
            log.append(&Entry {
                time: Timestamp::now(),
                client,
                fingerprint: key.as_ref().map_or("", |key| &key.fingerprint),
                key: key.as_ref().map(|key| key.title.as_str()),
                command: &command,
                repository,
                result,
            });
            drop(alive);
        });
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited(0) => "ok".to_owned(),
        Outcome::Exited(code) => format!("exit {code}"),
        Outcome::ClientGone => "client gone".to_owned(),
        Outcome::NotStarted(error) => format!("cannot start git: {error}"),
    }
}

impl Handler for Session {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        if user == USER && self.access.known(offer.public_key).is_some() {
            return Ok(Auth::Accept);
        }
        let why = if user == USER {
            "unknown key"
        } else {
            "the user of a git server is git"
        };
        self.log.append(&Entry {
            time: Timestamp::now(),
            client: self.client,
            fingerprint: &fingerprint(offer.public_key),
            key: None,
            command: "authenticate",
            repository: None,
            result: format!("refused: {why}"),
        });
        Ok(Auth::reject())
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.key = self.access.known(key.public_key).filter(|_| user == USER);
        Ok(if self.key.is_some() {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(
            channel.id(),
            OpenChannel {
                channel,
                protocol: None,
            },
        );
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut russh::server::Session) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        // Any other variable could change what git does on this machine.
        let protocol = value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.'));
        match self.channels.get_mut(&id) {
            Some(open) if name == PROTOCOL_VARIABLE && protocol && value.len() <= 64 => {
                open.protocol = Some(value.to_owned());
                session.channel_success(id)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        line: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let Some(open) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        self.execute(open, line);
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut russh::server::Session) -> Result<(), Self::Error> {
        let Some(open) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        tokio::spawn(async move { process::refuse(&open.channel, &Refusal::NoShell.to_string()).await });
        Ok(())
    }

    // The default of each of these is no answer at all, for which a client would wait.

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}
