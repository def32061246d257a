//! The user's wish to stop.

use std::sync::Arc;

use tokio::sync::watch;

/// Says once, to everyone who listens, that the user wants to stop.
#[derive(Debug, Clone)]
pub struct Cancellation {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Cancellation {
    /// One that SIGINT, SIGTERM and SIGHUP set off.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let cancellation = Self::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut stream = signal(kind)?;
            let cancellation = cancellation.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    cancellation.cancel();
                }
            });
        }
        Ok(cancellation)
    }

    /// Asks to stop.
    pub fn cancel(&self) {
        self.sender.send_replace(true);
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until stopping is asked for.
    pub async fn cancelled(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as self, so waiting cannot fail.
        let _ = receiver.wait_for(|cancelled| *cancelled).await;
    }
}
