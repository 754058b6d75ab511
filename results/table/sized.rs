//! The sizes that `match` chose, a model a line.

use crate::grid::{Column, Grid, left, right};
use crate::store::manifest::{Matching, SizedModel};
use crate::table::frame::settings_text;
use crate::table::section::{Part, Section};
use crate::table::sweep::Sweep;

const COLUMNS: [Column<SizedModel>; 6] = [
    left("task", 0, |m: &SizedModel| m.task.clone()),
    left("mixer", 0, |m: &SizedModel| m.mixer.clone()),
    left("settings", 1, |m: &SizedModel| settings_text(&m.settings)),
    left("chosen", 0, SizedModel::chosen_text),
    right("size", 0, |m: &SizedModel| m.size.to_string()),
    right("of target", 0, |m: &SizedModel| format!("{:+.2} %", 100.0 * m.off())),
];

/// The section; none where sizes were written.
pub(super) fn section(sweep: &Sweep) -> Vec<Section> {
    let Some(matching) = &sweep.manifest.matched else { return Vec::new() };
    let section = Section {
        name: "sizes",
        title: "Sizes",
        part: Part::Page,
        grid: Grid::new(&COLUMNS, &matching.models),
        caption: sentence(matching),
        ..Section::default()
    };
    vec![section.with_json("sizes", matching)]
}

/// By what models are matched, and how far one is off at most.
pub(super) fn sentence(matching: &Matching) -> String {
    let measure = match matching.measure.as_str() {
        "flops" => "FLOPs of a forward pass",
        "state" => "bytes of decoding state",
        other => other,
    };
    let targets: std::collections::BTreeSet<u64> = matching.models.iter().map(|model| model.target).collect();
    let target = match (&matching.of, targets.first()) {
        (Some(label), _) => format!("those of {label}"),
        (None, Some(target)) => target.to_string(),
        (None, None) => "a number".into(),
    };
    let furthest = matching.models.iter().max_by(|a, b| a.off().abs().total_cmp(&b.off().abs()));
    let furthest = furthest.map_or(String::new(), |model| {
        format!("; furthest off is {} on {} ({:+.2} %)", model.mixer, model.task, 100.0 * model.off())
    });
    let within = (matching.tolerance * 1e4).round() / 100.0;
    format!(
        "Models are matched by {measure}, to {target} within {within} %, by choice of {}{furthest}.",
        matching.by.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use crate::{Matching, SizedModel, samples};

    #[test]
    fn the_caption_says_by_what_and_the_page_what_was_chosen() {
        let model = |mixer: &str, chosen: &[(&str, &str)], size| SizedModel {
            task: "mqar".into(),
            mixer: mixer.into(),
            settings: Vec::new(),
            chosen: chosen.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            size,
            target: 1000,
        };
        let (mut manifest, records) = samples::eventful();
        assert!(Table::build(&manifest, &records).expect("builds").section("sizes").is_none());
        manifest.matched = Some(Matching {
            measure: "parameters".into(),
            of: Some("attention".into()),
            tolerance: 0.02,
            by: vec!["d_model".into(), "d_ff".into()],
            models: vec![model("attention", &[], 1000), model("s4", &[("d_model", "60"), ("d_ff", "90")], 985)],
        });
        let table = Table::build(&manifest, &records).expect("builds");
        let said = "Models are matched by parameters, to those of attention within 2 %, by choice of d_model, d_ff; furthest off is s4 \
                    on mqar (-1.50 %).";
        assert!(table.caption.iter().any(|line| line == said), "{:?}", table.caption);
        let page = samples::section(&table, "sizes");
        assert!(page.contains("| mqar | s4 | d_model 60, d_ff 90 | 985 | -1.50 % |"), "{page}");
        assert!(page.contains("| mqar | attention | as written | 1000 | +0.00 % |"), "{page}");
    }
}
