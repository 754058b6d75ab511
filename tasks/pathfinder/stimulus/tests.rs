//! Images: their bars against the original's libraries, their contours against their labels, their ink against samples.

use super::*;
use crate::pathfinder::level::SIDES;
use crate::pathfinder::{Statistics, facts};
use sha2::{Digest, Sha256};

fn scenes(generator: &Generator, count: u64) -> impl Iterator<Item = Scene<'_>> {
    (0..count).map(|index| generator.scene(Split::Train, index))
}

#[test]
fn every_bar_is_the_one_that_pillow_and_opencv_make() {
    // Made by drawing with Pillow 13.0.0 (line, Lanczos) and OpenCV 5.0.0 (dilation): for each degree from -180, ink,
    // then room, pasted in the middle of 41 x 41 pixels.
    let hash = |side, gap| {
        let bars = Bars::new(&Level::new(side, 14), gap);
        let mut hasher = Sha256::new();
        for start in &bars.starts {
            for patch in [&bars.bars[start.bar].ink, &bars.bars[start.bar].room] {
                let mut picture = [0_u8; 41 * 41];
                for (first, row) in patch.rows(Place { y: 20, x: 20 }, 41) {
                    picture[first..first + row.len()].copy_from_slice(row);
                }
                hasher.update(picture);
            }
        }
        hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let all = [(32, 1), (64, 1), (128, 2), (128, 3), (256, 3)].map(|(side, gap)| hash(side, gap));
    let made_by_them =
        ["414b5bf5d7e3d4de", "09ba2ed330d8cce0", "1f577bef3b23c7a7", "17ad3ba858d11dc8", "dd9668860a746689"];
    assert_eq!(all, made_by_them);
}

#[test]
fn contours_begin_in_as_many_directions_as_opencv_lets_them() {
    // Counted with OpenCV 5.0.0, degree by degree; see `bars::core`.
    let count = |side, gap| {
        let starts = Bars::new(&Level::new(side, 14), gap).starts;
        starts.iter().filter(|start| start.core.is_some()).count()
    };
    let all = [(32, 1), (64, 1), (128, 2), (128, 3), (256, 3)].map(|(side, gap)| count(side, gap));
    assert_eq!(all, [30, 95, 354, 360, 360]);
}

#[test]
fn pinned_images_have_not_moved() {
    // A change here changes every record: raise the task's version with it.
    let hash = |side, count| {
        let generator = Generator::new(side, 14, 0);
        let mut hasher = blake3::Hasher::new();
        for image in (0..count).map(|index| generator.image(Split::Test, index)) {
            hasher.update(&image.pixels).update(&[image.label]);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    };
    let hashes = [hash(32, 40), hash(64, 4), hash(128, 4), hash(256, 4)];
    assert_eq!(hashes, ["d7ee97c33452d3ca", "b4973e150435094e", "e137bdbe4c7956d9", "0833259efca90289"]);
}

#[test]
fn split_index_and_seed_each_change_the_image() {
    let image = |seed, split, index| Generator::new(32, 6, seed).image(split, index);
    let base = image(0, Split::Train, 0);
    assert_eq!(base, image(0, Split::Train, 0));
    for other in [image(1, Split::Train, 0), image(0, Split::Validation, 0), image(0, Split::Train, 1)] {
        assert_ne!(base.pixels, other.pixels);
    }
}

#[test]
fn markers_lie_on_one_contour_exactly_when_the_label_is_1() {
    for (side, contour_length) in [(32, 14), (64, 6), (128, 9), (256, 14)] {
        let generator = Generator::new(side, contour_length, 3);
        for scene in scenes(&generator, 12) {
            // The two contours as they were drawn, bar by bar.
            let contour = |first: usize| scene.strokes.iter().skip(first).step_by(2).map(|(_, at)| *at);
            let [one, two] = [0, 1].map(|first| contour(first).collect::<Vec<_>>());
            assert_eq!((one.len(), two.len()), (contour_length as usize, contour_length as usize));
            let [origin, terminal] = scene.markers();
            let joined = |from: &[Place]| from[0] == origin && from.last() == Some(&terminal);
            let apart = |from: &[Place], to: &[Place]| from[0] == origin && to.last() == Some(&terminal);
            match scene.label {
                1 => assert!(joined(&one) || joined(&two)),
                _ => assert!(apart(&one, &two) || apart(&two, &one)),
            }
        }
    }
}

#[test]
fn bars_of_a_contour_follow_each_other_at_the_distance_of_a_bar_and_two_gaps() {
    for side in SIDES {
        let generator = Generator::new(side, 9, 1);
        for scene in scenes(&generator, 6) {
            // From one end to the next: the pivot's step of l + 2 m, then the circle's l + m, less the way back.
            let longest = f64::from(2 * generator.level.length + 3 * scene.bars.gap) + 3.0;
            for first in 0..2 {
                let ends: Vec<Place> = scene.strokes.iter().skip(first).step_by(2).map(|(_, at)| *at).collect();
                for pair in ends.windows(2) {
                    let apart = f64::from(pair[1].y - pair[0].y).hypot(f64::from(pair[1].x - pair[0].x));
                    assert!(apart > f64::from(scene.bars.gap) && apart <= longest, "{side}: {apart}");
                }
            }
        }
    }
}

#[test]
fn labels_are_even_and_brightness_does_not_tell_them() {
    let generator = Generator::new(32, 14, 5);
    let images: Vec<Image> = (0..2_000).map(|index| generator.image(Split::Train, index)).collect();
    let of = |label: u8| {
        let some = images.iter().filter(|image| image.label == label);
        Statistics::of(32, some.map(|image| (image.pixels.as_slice(), image.label)))
    };
    let (joined, apart) = (of(1), of(0));
    assert!(joined.images.abs_diff(1_000) < 90, "4 deviations are 89: {}", joined.images);
    // An image's mean has a deviation of 2 and its ink of 0.014: of the difference of two means of 1,000, 0.09 and
    // 0.0006.
    assert!((joined.intensity - apart.intensity).abs() < 0.36, "{joined:?} {apart:?}");
    assert!((joined.ink[1] - apart.ink[1]).abs() < 0.0024, "{joined:?} {apart:?}");
}

#[test]
fn ink_and_pieces_are_those_of_the_original() {
    // Mean intensity, ink above 50 and 127, pieces above 50 and 127: of 600, 100 and 40 images that the original's
    // procedure made with its own libraries. A sample of 60, 24 and 10 images in the official layout agrees with them
    // to about two standard errors.
    let original = [
        (32, 400, [20.10, 0.1314, 0.0850, 13.19, 21.10], [0.45, 0.003, 0.0025, 1.0, 1.4]),
        (64, 60, [13.30, 0.0974, 0.0458, 15.58, 28.83], [0.9, 0.007, 0.004, 3.0, 3.0]),
        (128, 60, [7.94, 0.0461, 0.0303, 57.95, 58.98], [0.25, 0.0015, 0.001, 2.0, 2.0]),
    ];
    for (side, count, [intensity, ink_50, ink_127, pieces_50, pieces_127], tolerances) in original {
        let generator = Generator::new(side, 14, 0);
        let mut ours = Statistics::default();
        for image in (0..count).map(|index| generator.image(Split::Train, index)) {
            ours.add(&facts(&image.pixels, side as usize), image.label);
        }
        let measured = [ours.intensity, ours.ink[0], ours.ink[1], ours.components[0], ours.components[1]];
        let wanted = [intensity, ink_50, ink_127, pieces_50, pieces_127];
        for ((measured, wanted), tolerance) in measured.into_iter().zip(wanted).zip(tolerances) {
            assert!((measured - wanted).abs() < tolerance, "{side}: {measured}, expected {wanted}; {ours:?}");
        }
    }
}

#[test]
fn images_use_all_greys_and_markers_are_bright() {
    for (side, contour_length) in [(32, 14), (64, 6), (128, 6), (256, 6)] {
        let generator = Generator::new(side, contour_length, 2);
        for image in (0..6).map(|index| generator.image(Split::Validation, index)) {
            assert_eq!((image.pixels.iter().min(), image.pixels.iter().max()), (Some(&0), Some(&255)));
            for (y, x) in image.markers {
                let middle = image.pixels[usize::from(y) * side as usize + usize::from(x)];
                assert!(middle > 200, "{side}: {middle}");
            }
        }
    }
}

#[test]
fn free_tails_are_those_found_pixel_by_pixel() {
    let mut stream = Stream::new(0, Purpose::GUESS, 0);
    for side in [32, 64, 128, 256] {
        let taken: Vec<u8> = (0..side * side).map(|_| if stream.below(40) == 0 { 200 } else { FAINT }).collect();
        let core = [(0, 0), (1, 2), (-3, 1), (2, -4), (0, 5)].map(|(y, x)| Place { y, x });
        let tails = FreeTails::new(&taken, side, &core);
        let blocked = |at: Place| {
            let last = side as i32 - 1;
            let edge = at.y == 0 || at.x == 0 || at.y == last || at.x == last;
            at.inside(side) && (edge || taken[at.y as usize * side + at.x as usize] > FAINT)
        };
        let all = (0..side as i32).flat_map(|y| (0..side as i32).map(move |x| Place { y, x }));
        let free: Vec<Place> = all.filter(|&at| !core.iter().any(|&offset| blocked(at + offset))).collect();
        assert_eq!(tails.count, free.len() as u64, "{side}");
        assert!((0..tails.count).map(|n| tails.nth(n)).eq(free), "{side}");
    }
}
