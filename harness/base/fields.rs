//! The fields of a struct, as serde knows them: its JSON may leave some out.

use serde::de::{DeserializeOwned, Deserializer, Visitor, value::Error};
use serde::forward_to_deserialize_any;

/// Names of the fields of `T`; none for what is no struct.
pub fn of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // It gives no value, only hears what is asked for.
    let _ = T::deserialize(Asked(&mut found));
    found
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
    }
}
