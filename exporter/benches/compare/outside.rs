//! The one thread that plays everything around an exporter. Two on one core would wait for each other's time slices, which
//! are longer than a hundred answers take, and the exporter for both.

use std::future::Future;
use std::sync::{LazyLock, mpsc};

use tokio::runtime::{Builder, Handle};

static OUTSIDE: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Starts work that goes on by itself.
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) {
    OUTSIDE.spawn(work);
}

/// Does work there and waits for what comes of it.
pub(crate) fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    start(async move {
        let _ = sender.send(work.await);
    });
    receiver.recv().expect("the work outside has failed")
}
