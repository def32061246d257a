use std::process::{ExitStatus, Stdio};

use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf};
use tokio::io::{AsyncWriteExt, copy};
use tokio::process::{Child, ChildStdin};

use super::access::Granted;
use super::bare;

/// The stream of standard error in an SSH channel (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// The exit status where git ended without one, as a shell reports a death by SIGKILL.
const KILLED: u32 = 128 + 9;

/// How a git command ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Exited(u32),
    ClientGone,
    NotStarted(std::io::Error),
}

/// Runs git for a client: both directions at once, each no faster than its reader.
pub(super) async fn run(channel: Channel<Msg>, granted: &Granted, protocol: Option<&str>) -> Outcome {
    let mut child = match start(granted, protocol) {
        Ok(child) => child,
        Err(error) => {
            let _ = refuse(&channel, &format!("cannot start git: {error}")).await;
            return Outcome::NotStarted(error);
        }
    };
    let (mut from_client, to_client) = channel.split();
    let stdin = child.stdin.take();
    let output = async {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut out = to_client.make_writer();
        let mut err = to_client.make_writer_ext(Some(STDERR));
        let copied = tokio::try_join!(
            async {
                if let Some(mut stdout) = stdout {
                    copy(&mut stdout, &mut out).await
                } else {
                    Ok(0)
                }
            },
            async {
                if let Some(mut stderr) = stderr {
                    copy(&mut stderr, &mut err).await
                } else {
                    Ok(0)
                }
            },
        );
        copied?;
        child.wait().await
    };
    tokio::select! {
        status = output => match status {
            Ok(status) => {
                let code = exit_code(status);
                // The order of OpenSSH's sshd. The client may be gone by now, which is its own affair.
                let _ = to_client.exit_status(code).await;
                let _ = to_client.eof().await;
                let _ = to_client.close().await;
                Outcome::Exited(code)
            }
            // Only the client's side can fail to take what git wrote.
            Err(_) => Outcome::ClientGone,
        },
        // Dropping the child kills it.
        () = feed(&mut from_client, stdin) => Outcome::ClientGone,
    }
}

/// Tells the client on standard error why nothing runs, and closes the channel.
pub(super) async fn refuse(channel: &Channel<Msg>, message: &str) -> Result<(), russh::Error> {
    // git prints what the other side says on standard error as it is; the prefix is what Git hosts use.
    channel
        .extended_data_bytes(STDERR, format!("ERROR: {message}\n").into_bytes())
        .await?;
    channel.exit_status(1).await?;
    channel.eof().await?;
    channel.close().await
}

fn start(granted: &Granted, protocol: Option<&str>) -> std::io::Result<Child> {
    let mut command = bare::command(&granted.git, &granted.home);
    if let Some(protocol) = protocol {
        command.env("GIT_PROTOCOL", protocol);
    }
    command
        .arg(granted.service.subcommand())
        .arg(&granted.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Passes on what the client sends; returns when the client is gone, but not when it has merely sent everything.
async fn feed(from_client: &mut ChannelReadHalf, mut stdin: Option<ChildStdin>) {
    loop {
        match from_client.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    // git reads no further; it will end by itself and say why.
                    stdin = None;
                }
            }
            Some(ChannelMsg::Eof) => stdin = None,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

fn exit_code(status: ExitStatus) -> u32 {
    status
        .code()
        .and_then(|code| u32::try_from(code).ok())
        .unwrap_or(KILLED)
}
