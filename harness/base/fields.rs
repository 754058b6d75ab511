//! The fields of a struct, as serde knows them: its JSON may leave some out.

use serde::de::{DeserializeOwned, Deserializer, Visitor, value::Error};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value, json};

/// Names of the fields of `T`; none for what is no struct.
pub fn of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // It gives no value, only hears what is asked for.
    let _ = T::deserialize(Asked(&mut found));
    found
}

/// Every field of `T` with its default, also those that JSON leaves out at it.
pub fn defaults<T: Default + PartialEq + Serialize + DeserializeOwned>() -> Map<String, Value> {
    let written = serde_json::to_value(T::default()).expect("settings are plain data");
    let value = |key: &str| written.get(key).cloned().unwrap_or_else(|| left_out::<T>(key));
    of::<T>().iter().map(|key| ((*key).to_owned(), value(key))).collect()
}

/// The default of a field that JSON leaves out at it: the value that changes nothing.
fn left_out<T: Default + PartialEq + DeserializeOwned>(key: &str) -> Value {
    let read = |value: &Value| T::deserialize(json!({ key: value }));
    // Serde's message about a word that is none names those there are.
    let words = read(&json!("\0")).err().map_or(String::new(), |error| error.to_string());
    let words = words.split('`').skip(1).step_by(2).map(Value::from);
    let plain = [Value::Null, json!(false), json!(true), json!(0.0), json!(1.0), json!(0), json!(1)];
    plain.into_iter().chain(words).find(|value| read(value).is_ok_and(|read| read == T::default())).unwrap_or_default()
}

struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a struct is asked for its fields only"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn every_field_is_named_also_those_that_json_leaves_out_at_their_defaults() {
        let json = serde_json::to_value(ModelConfig::default()).unwrap();
        let fields = of::<ModelConfig>();
        assert!(json.as_object().unwrap().keys().all(|key| fields.contains(&key.as_str())));
        for left_out in ["head", "token_types", "linear_std", "precision", "checkpoint_activations"] {
            assert!(fields.contains(&left_out) && json.get(left_out).is_none(), "{left_out}");
        }
        assert!(of::<u64>().is_empty());
        let defaults = defaults::<ModelConfig>();
        assert_eq!(defaults.len(), fields.len());
        let value = |key: &str| defaults[key].clone();
        assert_eq!([value("head_bias"), value("token_types"), value("head")], [json!(true), json!(0), Value::Null]);
        assert_eq!([value("precision"), value("ffn_activation")], [json!("f32"), json!("gelu")]);
    }
}
