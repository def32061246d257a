//! A Git host reached over SSH, as far as a deployment needs one: bare repositories, operators who push, and deploy
//! keys that open one repository each.
//!
//! The SSH side is in process; the Git protocol is spoken by the real `git upload-pack` and `git receive-pack`, as
//! an SSH daemon would start them (gitprotocol-pack(5), "SSH Transport").

mod access;
mod access_log;
mod bare;
mod command;
mod host_key;
mod process;
mod session;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::{MethodKind, MethodSet, Preferred};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::json_lines::JsonLines;
use super::{DeployKeys, Error, RepositoryName, Shutdown, http, stopped};
use access::Access;
use session::Session;

pub use host_key::HostKey;

/// How long connections may take to end after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Settings of the Git server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `git` program.
    pub git: PathBuf,
    /// Where the bare repositories are, as `owner/name.git`; made at the start where they are missing.
    pub repositories_dir: PathBuf,
    /// The repositories that are served; no other path is.
    pub repositories: Vec<RepositoryName>,
    /// The key by which clients know the server.
    pub host_key: HostKey,
    /// Keys that may fetch and push everywhere.
    pub operators: Vec<Operator>,
    /// Keys that open one repository each; one that is revoked there is refused from then on.
    pub deploy_keys: DeployKeys,
    /// JSON lines: time, client, key fingerprint, key title, command, repository, result.
    pub access_log: PathBuf,
}

/// Somebody who may fetch and push everywhere.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The name in the access log.
    pub title: String,
    /// The public key in OpenSSH format.
    pub key: String,
}

/// Serves until the shutdown.
///
/// # Errors
/// The listener is not on loopback, a key or the log is unusable, or a repository cannot be made.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    http::loopback(&listener)?;
    for repository in &config.repositories {
        bare::ensure(&config.git, &config.repositories_dir, repository).await?;
    }
    let ssh = Arc::new(ssh_config(&config.host_key));
    let access = Arc::new(Access::new(&config)?);
    let log = JsonLines::open(&config.access_log)?;
    // Each connection holds a sender, also while its git process ends; all are gone when the channel closes.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);

    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(shutdown.clone()) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // A connection that is gone before it was accepted, or no file descriptor left: neither may end the
                // server, and the second passes when other connections end.
                let Ok((stream, client)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let session = Session::new(client, Arc::clone(&access), log.clone(), alive.clone());
                connections.spawn(connection(Arc::clone(&ssh), stream, session, shutdown.clone()));
            }
        }
    }
    drop((listener, alive));
    let ended = async {
        while connections.join_next().await.is_some() {}
        all_gone.recv().await
    };
    let _ = tokio::time::timeout(GRACE, ended).await;
    Ok(())
}

/// Speaks SSH with one client until it leaves or the server ends. What goes wrong is the client's to notice.
async fn connection(ssh: Arc<russh::server::Config>, stream: TcpStream, session: Session, shutdown: Shutdown) {
    // Git's protocol is many small messages back and forth.
    let _ = stream.set_nodelay(true);
    let starting = russh::server::run_stream(ssh, stream, session);
    let running = tokio::select! {
        running = starting => running,
        () = stopped(shutdown.clone()) => return,
    };
    let Ok(running) = running else { return };
    let handle = running.handle();
    tokio::select! {
        _ = running => {}
        () = stopped(shutdown) => {
            let reason = russh::Disconnect::ByApplication;
            let _ = handle.disconnect(reason, "the git server ends".to_owned(), "en".to_owned()).await;
        }
    }
}

fn ssh_config(host_key: &HostKey) -> russh::server::Config {
    russh::server::Config {
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        // The delay is to hide how long a password check took. There are no passwords, and a rotation that probes
        // with a revoked key should not wait for it.
        auth_rejection_time: Duration::ZERO,
        keys: vec![host_key.private().clone()],
        preferred: Preferred {
            compression: [russh::compression::NONE].to_vec().into(),
            ..Preferred::default()
        },
        nodelay: true,
        ..russh::server::Config::default()
    }
}
