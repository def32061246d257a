//! The parts of the supervisor that need no control plane.

use std::time::Duration;

use super::lock::{Lock, holder};
use super::ports::Reserved;
use super::processes;

#[test]
fn a_reserved_port_is_nobody_elses_until_it_is_released() {
    let reserved = Reserved::new().unwrap();
    let address = reserved.address();
    assert!(std::net::TcpListener::bind(address).is_err());
    assert!(std::net::TcpStream::connect(address).is_err());
    reserved.release();
    // A program that another test is just starting may hold it a moment longer.
    let released = std::time::Instant::now();
    while std::net::TcpListener::bind(address).is_err() {
        assert!(released.elapsed() < Duration::from_secs(10), "it is still held");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_lock_has_one_holder_who_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    assert_eq!(holder(&path).unwrap(), None);
    let mut lock = Lock::try_acquire(&path).unwrap().unwrap();
    lock.sign(&path).unwrap();
    assert!(
        Lock::acquire(&path, Duration::from_millis(150))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(holder(&path).unwrap(), Some(std::process::id()));
    drop(lock);
    assert_eq!(holder(&path).unwrap(), None);
}

#[tokio::test]
async fn processes_are_found_and_killed_by_the_mark_they_carry() {
    let dir = tempfile::tempdir().unwrap();
    let start = |marked: bool| {
        let mut command = std::process::Command::new("sleep");
        command.arg("60");
        if marked {
            command.env(processes::MARKER, dir.path());
        }
        command.spawn().unwrap()
    };
    let (mut marked, mut other) = (start(true), start(false));
    // A fork shows its parent's environment until it has become `sleep`.
    while processes::of_sandbox(dir.path()).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let wait = std::thread::spawn(move || marked.wait().map(|status| (marked.id(), status)));
    let killed = processes::kill_all(dir.path()).await;
    let (pid, status) = wait.join().unwrap().unwrap();
    assert_eq!(killed, [pid]);
    assert!(!status.success());
    assert!(
        other.try_wait().unwrap().is_none(),
        "a process without the mark lives on"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}
