//! Where the value of each setting of a run was written.

use crate::base::diagnostics::Place;
use crate::config::entry::Entry;
use crate::config::layers::Layer;
use crate::config::sections::Layers;
use crate::train::sections::NAMES;
use std::collections::BTreeMap;

/// Where a value comes from. What has no origin is a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is written there.
    Written(Place),
    /// It is one of a preset's, which is named there.
    Preset(String, Place),
}

/// Origins by path: `model.d_model`, `task` and `mixer` for what was chosen, `mixer.d_state` for its settings, `seed`, `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Of a combination: its entries with the keys of their families, the keys of its sections as they are written, and those with
    /// the keys of a preset below them.
    pub(super) fn of(task: (&Entry, &Layer), mixer: (&Entry, &Layer), written: &Layers, whole: &Layers) -> Self {
        let mut origins = Self::default();
        for (kind, (entry, keys)) in [("task", task), ("mixer", mixer)] {
            origins.insert(kind, Origin::Written(entry.family_place.clone()));
            keys.0.iter().for_each(|(key, node)| origins.written(kind, &key.name, &node.place));
        }
        for section in NAMES {
            let preset = written.of(section).0.iter().find(|(key, _)| key.name == "preset");
            let preset = preset.and_then(|(_, node)| Some((node.as_str()?, &node.place)));
            for (key, node) in &whole.of(section).0 {
                match (written.of(section).place_of(&key.name), preset) {
                    (None, Some((name, place))) => {
                        let origin = Origin::Preset(name.into(), place.clone());
                        origins.insert(&format!("{section}.{}", key.name), origin);
                    }
                    _ => origins.written(section, &key.name, &node.place),
                }
            }
        }
        if let Some(start) = task.0.start.as_ref().or(mixer.0.start.as_ref()).and_then(Option::as_ref) {
            origins.insert("start", Origin::Written(start.place.clone()));
        }
        origins
    }

    fn written(&mut self, of: &str, key: &str, place: &Place) {
        self.insert(&format!("{of}.{key}"), Origin::Written(place.clone()));
    }

    /// Adds one.
    pub(super) fn insert(&mut self, path: &str, origin: Origin) {
        self.0.insert(path.into(), origin);
    }

    /// That of a path; `None`: a default.
    pub fn get(&self, path: &str) -> Option<&Origin> {
        self.0.get(path)
    }
}
