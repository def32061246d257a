//! Runs the server until it is stopped, and prints what a shell needs to work with it: for looking at Terraform by hand.
#![allow(clippy::print_stdout)]

fn main() {
    let server = tfe_test_server::Server::start(&[]);
    let person = server.person("alice", true);
    println!("export TFE_HOST={}", server.host());
    println!("export SSL_CERT_FILE={}", server.ca_file().display());
    println!("export TFE_TOKEN={}", person.token);
    std::thread::park();
}
