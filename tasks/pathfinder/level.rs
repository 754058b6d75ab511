//! Sizes and difficulties of the images of Long Range Arena: what the generator is told for each.

/// What an image is drawn with. Distances are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    /// Side of the window.
    pub side: usize,
    /// Width of the border that contours keep out of.
    pub padding: usize,
    /// From the tail of one target contour to the tail of the other.
    pub seed_distance: i32,
    /// Twice the radius of a marker.
    pub marker: i32,
    /// Length of a bar.
    pub length: i32,
    /// Twice the width of a bar.
    pub thickness: i32,
    /// Gaps between bars, of which one is drawn for each image.
    pub gaps: &'static [i32],
    /// How much a turn costs.
    pub continuity: f64,
    /// Bars of a target contour.
    pub contour_length: usize,
    /// Bars of a distractor.
    pub distractor_length: usize,
    /// Distractors that are tried.
    pub distractors: usize,
    /// Brightness of the targets' bars, in tenths of a marker's.
    pub target_contrast: u16,
    /// Brightness of the distractors' bars, in tenths of a marker's.
    pub distractor_contrast: u16,
}

/// Sides there are.
pub(super) const SIDES: [u32; 4] = [32, 64, 128, 256];
/// Contour lengths there are, easy to hard.
pub(super) const CONTOUR_LENGTHS: [u32; 3] = [6, 9, 14];

impl Level {
    /// The level of a side out of [`SIDES`] and a contour length out of [`CONTOUR_LENGTHS`].
    pub fn new(side: u32, contour_length: u32) -> Self {
        let contour_length = contour_length as usize;
        let distractor_length = contour_length / 3;
        let base = Self {
            side: side as usize,
            padding: 1,
            seed_distance: 7,
            marker: 3,
            length: 5,
            thickness: 1,
            gaps: &[1],
            continuity: 1.8,
            contour_length,
            distractor_length,
            distractors: 20 / distractor_length,
            target_contrast: 15,
            distractor_contrast: 20,
        };
        match side {
            32 => Self { length: 2, continuity: 1.0, ..base },
            64 => Self {
                seed_distance: 12,
                marker: 5,
                thickness: 2,
                distractors: 22 / distractor_length,
                target_contrast: 8,
                distractor_contrast: 8,
                ..base
            },
            128 => Self {
                seed_distance: 20,
                marker: 6,
                thickness: 3,
                gaps: &[2, 3],
                distractors: 35 / distractor_length,
                target_contrast: 9,
                distractor_contrast: 9,
                ..base
            },
            _ => Self {
                padding: 22,
                seed_distance: 27,
                marker: 10,
                thickness: 4,
                gaps: &[3],
                distractors: 30 / distractor_length,
                target_contrast: 10,
                distractor_contrast: 10,
                ..base
            },
        }
    }
}

/// The folder of a contour length in the official layout.
pub(super) const fn folder(contour_length: u32) -> &'static str {
    match contour_length {
        6 => "curv_baseline",
        9 => "curv_contour_length_9",
        _ => "curv_contour_length_14",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every side and contour length.
    pub fn every_level() -> Vec<Level> {
        SIDES.into_iter().flat_map(|side| CONTOUR_LENGTHS.map(|length| Level::new(side, length))).collect()
    }

    #[test]
    fn distractors_are_as_many_as_their_bars_allow() {
        let counts = |side| CONTOUR_LENGTHS.map(|length| Level::new(side, length)).map(|level| level.distractors);
        assert_eq!(SIDES.map(counts), [[10, 6, 5], [11, 7, 5], [17, 11, 8], [15, 10, 7]]);
    }
}
