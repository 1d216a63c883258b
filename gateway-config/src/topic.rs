//! Topic filters with names in them: `site/{tenant}/{device}/telemetry`, `+` and `#` as in MQTT. Only the syntax is
//! here; matching topics at full speed is the sources' business.

use std::fmt;

/// Most levels of a filter.
pub const MAX_LEVELS: usize = 32;
/// Most bytes of a filter.
pub const MAX_BYTES: usize = 1_024;

/// A filter, level by level.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    segments: Vec<Segment>,
}

/// One level of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// `{tenant}`: any one level, which names the tenant.
    Tenant,
    /// `{device}`: any one level, which names the device.
    Device,
    /// `+`: any one level.
    Any,
    /// `#`: any number of further levels, also none. Only at the end.
    Rest,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing there.
    #[error("a topic filter must not be empty: write e.g. \"site/{{tenant}}/{{device}}/telemetry\"")]
    Empty,
    /// More than [`MAX_BYTES`] or [`MAX_LEVELS`].
    #[error("a topic filter has at most {MAX_BYTES} bytes and {MAX_LEVELS} levels")]
    TooLong,
    /// `#` before the end.
    #[error("\"#\" stands only at the end of a topic filter: use \"+\" for one level in the middle")]
    RestNotLast,
    /// A wildcard or brace inside of a level.
    #[error(
        "{0:?} mixes text with a wildcard or a name in one level: each of \"+\", \"#\", {{tenant}} and {{device}} \
         takes a whole level between slashes"
    )]
    Mixed(String),
    /// A name other than tenant or device.
    #[error(
        "unknown name {{{0}}}: a topic filter knows {{tenant}} and {{device}}; use \"+\" for other levels"
    )]
    Unknown(String),
    /// A name twice.
    #[error("{{{0}}} stands twice in the topic filter")]
    Twice(&'static str),
    /// `$share/…` or a NUL.
    #[error("{0}")]
    Forbidden(&'static str),
}

impl TopicFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`TopicError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > MAX_BYTES || text.split('/').count() > MAX_LEVELS {
            return Err(TopicError::TooLong);
        }
        if text.contains('\0') {
            return Err(TopicError::Forbidden("a topic filter must not contain a NUL character"));
        }
        if text.starts_with("$share/") {
            return Err(TopicError::Forbidden(
                "shared subscriptions ($share/…) would split a device's messages among gateways: subscribe without",
            ));
        }
        let segments = text.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
            return Err(TopicError::RestNotLast);
        }
        for (name, which) in [("tenant", Segment::Tenant), ("device", Segment::Device)] {
            if segments.iter().filter(|segment| **segment == which).count() > 1 {
                return Err(TopicError::Twice(name));
            }
        }
        Ok(Self { segments })
    }

    /// Its levels.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it has `{tenant}`.
    #[must_use]
    pub fn names_tenant(&self) -> bool {
        self.segments.contains(&Segment::Tenant)
    }

    /// Whether it has `{device}`.
    #[must_use]
    pub fn names_device(&self) -> bool {
        self.segments.contains(&Segment::Device)
    }

    /// The filter as MQTT knows it, with `+` for names: what a broker is asked for.
    #[must_use]
    pub fn as_mqtt(&self) -> String {
        let levels: Vec<&str> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.as_str(),
                Segment::Tenant | Segment::Device | Segment::Any => "+",
                Segment::Rest => "#",
            })
            .collect();
        levels.join("/")
    }
}

impl std::str::FromStr for TopicFilter {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            f.write_str(match segment {
                Segment::Literal(text) => text,
                Segment::Tenant => "{tenant}",
                Segment::Device => "{device}",
                Segment::Any => "+",
                Segment::Rest => "#",
            })?;
        }
        Ok(())
    }
}

fn segment(text: &str) -> Result<Segment, TopicError> {
    Ok(match text {
        "+" => Segment::Any,
        "#" => Segment::Rest,
        "{tenant}" => Segment::Tenant,
        "{device}" => Segment::Device,
        _ => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.contains(['{', '}']) => return Err(TopicError::Unknown(name.to_owned())),
            _ if text.contains(['+', '#', '{', '}']) => return Err(TopicError::Mixed(text.to_owned())),
            _ => Segment::Literal(text.to_owned()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_given_to_a_broker() {
        let filter = TopicFilter::parse("site/{tenant}/+/{device}/#").unwrap();
        assert_eq!(filter.as_mqtt(), "site/+/+/+/#");
        assert_eq!(filter.to_string(), "site/{tenant}/+/{device}/#");
        assert!(filter.names_tenant() && filter.names_device());
        assert_eq!(TopicFilter::parse("/a").unwrap().segments()[0], Segment::Literal(String::new()));
    }

    #[test]
    fn each_mistake_is_named() {
        let error = |text: &str| TopicFilter::parse(text).unwrap_err();
        assert_eq!(error(""), TopicError::Empty);
        assert_eq!(error("a/#/b"), TopicError::RestNotLast);
        assert_eq!(error("a/x+/b"), TopicError::Mixed("x+".into()));
        assert_eq!(error("a/dev-{device}"), TopicError::Mixed("dev-{device}".into()));
        assert_eq!(error("a/{line}"), TopicError::Unknown("line".into()));
        assert_eq!(error("{device}/{device}"), TopicError::Twice("device"));
        assert_eq!(error(&"a/".repeat(40)), TopicError::TooLong);
        assert!(matches!(error("$share/g/a"), TopicError::Forbidden(_)));
    }
}
