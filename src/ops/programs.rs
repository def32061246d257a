use mfsre_sandbox::Missing;

use crate::config::Environment;
use crate::error::{Error, Result};
use crate::terraform::Program;

/// Finds Terraform, and makes sure of the programs that this machine must have besides.
///
/// # Errors
/// Something is missing: everything that is, in one error.
pub(super) async fn find(environment: &Environment) -> Result<Program> {
    let setting = environment.terraform.program.as_deref();
    let (program, missing) = tokio::join!(Program::find(setting), mfsre_sandbox::missing());
    if missing.is_empty() {
        return Ok(program?);
    }
    let mut error = Error::failed("programs that mfsre needs are not on this machine");
    if let Err(terraform) = program.map_err(Error::from) {
        error.causes.push(terraform.message);
        error.causes.extend(terraform.causes);
        error.hints.extend(terraform.hints);
    }
    for Missing { program, found, how } in missing {
        error.causes.push(format!("{program}: {found}"));
        error.hints.push(format!("get {program} with {how}"));
    }
    Err(error)
}
