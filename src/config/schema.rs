use schemars::generate::SchemaSettings;

use super::EnvironmentFile;

/// The JSON Schema of an environment file, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<EnvironmentFile>();
    schema.insert("title".into(), "mfsre environment".into());
    schema.to_value()
}
