//! An SSH agent of our own, so that a key can be used by `ssh` without being written down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::{once, unfold};
use russh::keys::PrivateKey;
use russh::keys::agent::client::AgentClient;
use russh::keys::agent::server::{Agent, MessageType, serve};
use russh::keys::agent::{AgentIdentity, Constraint};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Holds one key in memory and signs with it, at a socket in a folder that only this user may open. It ends when it is
/// dropped.
pub(super) struct KeyAgent {
    socket: PathBuf,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// The key is in, and no other may follow.
    sealed: AtomicBool,
    /// The key was used: the server has accepted its public part, since SSH asks for a signature only then (RFC 4252,
    /// section 7).
    signed: AtomicBool,
}

/// What the library asks at each request.
#[derive(Clone)]
struct Guard(Arc<State>);

impl Agent for Guard {
    fn confirm(self, _: Arc<PrivateKey>) -> Box<dyn Future<Output = (Self, bool)> + Unpin + Send> {
        self.0.signed.store(true, Ordering::SeqCst);
        Box::new(std::future::ready((self, true)))
    }

    async fn confirm_request(&self, message: MessageType) -> bool {
        match message {
            MessageType::RequestKeys | MessageType::Sign => true,
            MessageType::AddKeys => !self.0.sealed.load(Ordering::SeqCst),
            MessageType::RemoveKeys | MessageType::RemoveAllKeys | MessageType::Lock | MessageType::Unlock => false,
        }
    }
}

impl KeyAgent {
    /// Starts an agent with `key` at a socket in `folder`.
    ///
    /// # Errors
    /// The socket cannot be made, for example because its path is longer than 107 bytes.
    pub(super) async fn start(folder: &Path, key: &PrivateKey) -> std::io::Result<Self> {
        let socket = folder.join("agent");
        let listener = UnixListener::bind(&socket)?;
        let state = Arc::new(State::default());
        // The key comes in over a connection that has no name, before anybody else can ask for anything.
        let (ours, theirs) = UnixStream::pair()?;
        let accepted = unfold(listener, |listener| async move {
            let stream = listener.accept().await.map(|(stream, _)| stream);
            Some((stream, listener))
        });
        let connections = once(std::future::ready(Ok(theirs))).chain(accepted);
        let guard = Guard(state.clone());
        let task = tokio::spawn(async move {
            // It ends when the listener fails or the agent is dropped; whoever uses it then gets no signature.
            let _ = serve(Box::pin(connections), guard).await;
        });
        let agent = Self { socket, state, task };
        let mut client = AgentClient::connect(ours);
        client
            .add_identity(key, &[Constraint::Confirm])
            .await
            .map_err(std::io::Error::other)?;
        agent.state.sealed.store(true, Ordering::SeqCst);
        let held = client.request_identities().await.map_err(std::io::Error::other)?;
        match held.as_slice() {
            [AgentIdentity::PublicKey { key: held, .. }] if held.key_data() == key.public_key().key_data() => Ok(agent),
            _ => Err(std::io::Error::other("the agent did not take the key")),
        }
    }

    /// Where programs reach it.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether a server has accepted the key.
    pub(super) fn was_used(&self) -> bool {
        self.state.signed.load(Ordering::SeqCst)
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
