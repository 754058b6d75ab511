//! `mixarena schema`: the JSON schema of configs.

use crate::base::exit::Exit;
use crate::config::schema;
use crate::registry::Registry;

/// Prints the schema, as `configs/schema.json` holds it.
pub fn schema(registry: &Registry) -> Exit {
    print!("{}", text(registry));
    Exit::Ok
}

/// The schema as it is printed.
pub fn text(registry: &Registry) -> String {
    serde_json::to_string_pretty(&schema::of(registry)).expect("a schema is plain data") + "\n"
}
