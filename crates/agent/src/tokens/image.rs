//! What images cost, by the published formulae: OpenAI's "Images and vision" guide, "Calculating costs", and
//! Anthropic's "Vision" page, "Calculate image costs".

use crate::Protocol;

/// How a model counts an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ImageRule {
    /// A base and a number for each square of 512 pixels, after scaling into 2048 x 2048 and the shorter side to 768.
    Tiles {
        /// For the image.
        base: u64,
        /// For each square.
        tile: u64,
    },
    /// Squares of 32 pixels, at most 1536, times a factor in hundredths.
    Patches {
        /// 162 for 1.62.
        hundredths: u64,
    },
    /// Pixels by 750, after scaling the longer side to 1568; at most about 1600.
    Area,
}

impl ImageRule {
    /// Where there is no image.
    pub(crate) const NONE: Self = Self::Tiles { base: 0, tile: 0 };

    /// The rule of a model. What nobody has published is taken for the most usual one.
    pub(crate) fn of(protocol: Protocol, model: &str) -> Self {
        let bare = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
        if protocol == Protocol::Messages || bare.contains("claude") {
            return Self::Area;
        }
        let is = |names: &[&str]| names.iter().any(|name| bare.starts_with(name));
        if is(&["gpt-5-nano", "gpt-4.1-nano"]) {
            Self::Patches { hundredths: 246 }
        } else if is(&["gpt-5-mini", "gpt-4.1-mini"]) {
            Self::Patches { hundredths: 162 }
        } else if is(&["o4-mini"]) {
            Self::Patches { hundredths: 172 }
        } else if is(&["gpt-4o-mini"]) {
            Self::Tiles { base: 2833, tile: 5667 }
        } else if is(&["gpt-5"]) {
            Self::Tiles { base: 70, tile: 140 }
        } else if is(&["o1", "o3"]) {
            Self::Tiles { base: 75, tile: 150 }
        } else {
            Self::Tiles { base: 85, tile: 170 }
        }
    }

    /// The tokens of an image of this width and height; of one whose size is not known, what most have.
    pub(crate) fn tokens(self, size: Option<(u32, u32)>) -> u64 {
        let (width, height) = size.unwrap_or((1024, 1024));
        let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
        match self {
            Self::Tiles { base, tile } => {
                let into = (2048.0 / width.max(height)).min(1.0);
                let shorter = (768.0 / (width * into).min(height * into)).min(1.0);
                let squares = |side: f64| (side * into * shorter / 512.0).ceil() as u64;
                base + tile * squares(width) * squares(height)
            }
            Self::Patches { hundredths } => {
                let patches = (width / 32.0).ceil() * (height / 32.0).ceil();
                patches.min(1536.0) as u64 * hundredths / 100
            }
            Self::Area => {
                let scale = (1568.0 / width.max(height)).min(1.0);
                ((width * scale * height * scale / 750.0).ceil() as u64).min(1600)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_cost_what_the_published_examples_say() {
        let tiles = ImageRule::of(Protocol::Responses, "gpt-4o");
        let patches = ImageRule::of(Protocol::Responses, "openai/gpt-4.1-mini");
        let area = ImageRule::of(Protocol::Messages, "claude-sonnet-4-5");

        // From the pages named above.
        assert_eq!(tiles.tokens(Some((1024, 1024))), 765);
        assert_eq!(tiles.tokens(Some((2048, 4096))), 1105);
        assert_eq!(patches.tokens(Some((1024, 1024))), 1658);
        assert_eq!(area.tokens(Some((1000, 1000))), 1334);
        assert_eq!(area.tokens(Some((200, 200))), 54);
    }

    #[test]
    fn no_image_costs_more_than_its_model_can_see() {
        let huge = Some((u32::MAX, u32::MAX));

        assert_eq!(ImageRule::of(Protocol::Responses, "gpt-5").tokens(huge), 70 + 4 * 140);
        assert_eq!(ImageRule::of(Protocol::Messages, "x").tokens(huge), 1600);
        assert_eq!(ImageRule::of(Protocol::Responses, "o4-mini").tokens(huge), 1536 * 172 / 100);
    }
}
