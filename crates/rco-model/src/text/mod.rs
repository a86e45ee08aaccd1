//! Calibration and held-out text: documents, divided by the seed, cut into windows.
//!
//! One file is one domain. Each domain is cut into documents, of which a share is held
//! out; windows of tokens are cut from the documents of one side, in an order that the
//! seed decides, and the domains take turns, so that any number of windows from the first
//! on is balanced. All of it depends on texts, tokenizer and seed alone.

mod documents;
mod error;
mod split;

pub use error::TextError;

use std::path::Path;

use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// Text to tokens.
pub trait Tokenise {
    /// Tokens of a text, without those that a model expects around it.
    ///
    /// # Errors
    /// Whatever the tokenizer says.
    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError>;

    /// The token that the model expects before a text, if there is one.
    fn bos(&self) -> Option<u32>;
}

impl Tokenise for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Tokenizer::encode(self, text, false)
    }

    fn bos(&self) -> Option<u32> {
        // What is put before a text that begins with nothing special.
        let (plain, special) = (self.encode("a", false).ok()?, self.encode("a", true).ok()?);
        let before = special.windows(plain.len()).position(|w| w == plain)?;
        (before > 0).then(|| special[0])
    }
}

impl Tokenise for rco_ggml::Vocabulary {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(rco_ggml::Vocabulary::encode(self, text, false))
    }

    fn bos(&self) -> Option<u32> {
        rco_ggml::Vocabulary::bos(self).filter(|_| self.adds_bos())
    }
}

/// The two sides of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What the search sees.
    Calibration,
    /// What only selects and reports.
    HeldOut,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Calibration => "calibration",
            Self::HeldOut => "held-out",
        }
    }
}

/// How texts are divided and cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextSettings {
    /// Decides which documents are held out, and the order of all.
    pub seed: u64,
    /// Share of each text that is held out, by bytes, between 0 and 1.
    pub held_out: f64,
    /// Tokens of a window, with that before the text; at least 2.
    pub window: usize,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self { seed: 0, held_out: 0.2, window: 512 }
    }
}

/// A window of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Position of its text among those of the [`Corpus`].
    pub domain: usize,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

/// One text, divided.
#[derive(Debug, Clone)]
struct Domain {
    name: String,
    calibration: Vec<String>,
    held_out: Vec<String>,
}

/// Texts, divided into calibration and held-out documents.
#[derive(Debug, Clone)]
pub struct Corpus {
    settings: TextSettings,
    domains: Vec<Domain>,
}

impl Corpus {
    /// No text yet.
    ///
    /// # Errors
    /// [`TextError::BadSetting`].
    pub fn new(settings: TextSettings) -> Result<Self, TextError> {
        let bad =
            |setting, found: String, expected| TextError::BadSetting { setting, found, expected };
        if !(settings.held_out > 0.0 && settings.held_out < 1.0) {
            let found = settings.held_out.to_string();
            return Err(bad("the held-out share", found, "a number between 0 and 1"));
        }
        if settings.window < 2 {
            let found = settings.window.to_string();
            return Err(bad("the window", found, "at least 2 tokens"));
        }
        Ok(Self { settings, domains: Vec::new() })
    }

    /// Adds a file as a domain.
    ///
    /// # Errors
    /// A file that cannot be read, is not UTF-8 or has no text.
    pub fn add_file(&mut self, path: impl AsRef<Path>) -> Result<(), TextError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(TextError::Read { file, source }),
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.add_text(file, &text),
            Err(e) => Err(TextError::NotUtf8 { file, byte: e.utf8_error().valid_up_to() }),
        }
    }

    /// Adds a text as a domain; `name` stands for the file.
    ///
    /// # Errors
    /// [`TextError::Empty`].
    pub fn add_text(&mut self, name: impl Into<String>, text: &str) -> Result<(), TextError> {
        let name = name.into();
        let documents = documents::documents(text);
        if documents.is_empty() {
            return Err(TextError::Empty { file: name });
        }
        let TextSettings { seed, held_out: share, .. } = self.settings;
        let held = split::held_out(&documents, share, seed);
        let (mut calibration, mut held_out) = (Vec::new(), Vec::new());
        for i in split::shuffled(&documents, seed) {
            let side = if held[i] { &mut held_out } else { &mut calibration };
            side.push(documents[i].to_owned());
        }
        self.domains.push(Domain { name, calibration, held_out });
        Ok(())
    }

    /// Names of the domains.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(|d| d.name.as_str())
    }

    /// Documents of a domain on one side, in the order of the windows; none for a domain
    /// that does not exist.
    pub fn documents(&self, domain: usize, side: Side) -> &[String] {
        self.domains.get(domain).map_or(&[], |d| match side {
            Side::Calibration => &d.calibration,
            Side::HeldOut => &d.held_out,
        })
    }

    /// The first `count` windows of one side. Window `i` is of domain `i mod domains`;
    /// windows run on from document to document, which blank lines separate.
    ///
    /// # Errors
    /// [`TextError::TooShort`] with the domain, or what the tokenizer says.
    pub fn windows(
        &self,
        tokenizer: &dyn Tokenise,
        side: Side,
        count: usize,
    ) -> Result<Vec<Window>, TextError> {
        self.windows_between(tokenizer, side, count, count)
    }

    /// As many windows as there is text for, at least `least` and at most `most`: the first of
    /// those that [`Corpus::windows`] gives.
    ///
    /// # Errors
    /// As there, if there are fewer than `least`.
    pub fn windows_between(
        &self,
        tokenizer: &dyn Tokenise,
        side: Side,
        least: usize,
        most: usize,
    ) -> Result<Vec<Window>, TextError> {
        let bos = tokenizer.bos();
        // Tokens of text in a window.
        let step = self.settings.window - usize::from(bos.is_some());
        let domains = self.domains.len();
        if domains == 0 && most > 0 {
            return Err(TextError::Empty { file: "the corpus".to_owned() });
        }
        // Tokens of a domain that so many windows of all take.
        let of = |count: usize, domain: usize| {
            (count / domains + usize::from(domain < count % domains)) * step
        };
        let mut streams = Vec::with_capacity(domains);
        let mut count = most;
        for (domain, Domain { name, .. }) in self.domains.iter().enumerate() {
            let wanted = of(most, domain);
            let mut tokens = Vec::new();
            for document in self.documents(domain, side) {
                if tokens.len() >= wanted {
                    break;
                }
                let found = tokenizer.encode(&format!("{document}\n\n"));
                tokens.extend(found.map_err(|source| {
                    let file = name.clone();
                    TextError::Tokenise { file, source: Box::new(source) }
                })?);
            }
            let needed = of(least, domain);
            if tokens.len() < needed {
                let (file, split, found) = (name.clone(), side.name(), tokens.len());
                return Err(TextError::TooShort { file, split, found, needed });
            }
            // Domains take turns: this one ends them when it has no window left.
            count = count.min((tokens.len() / step).saturating_mul(domains).saturating_add(domain));
            streams.push(tokens);
        }
        let window = |i: usize| {
            let (domain, start) = (i % domains, i / domains * step);
            let text = &streams[domain][start..start + step];
            Window { domain, tokens: bos.iter().chain(text).copied().collect() }
        };
        Ok((0..count).map(window).collect())
    }
}

#[cfg(test)]
mod tests;
