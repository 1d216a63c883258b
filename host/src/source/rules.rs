//! What a source takes and how a payload becomes rows: the configuration's `[[source.topic]]`, ready for use.

use std::collections::BTreeMap;

use super::template::Template;
use super::time::TimeRule;

/// One `[[source.topic]]`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which topics, and whose they are.
    pub template: Template,
    /// The device type given to the rows.
    pub profile: String,
    /// What a payload is.
    pub format: Format,
}

/// What a payload is.
#[derive(Debug, Clone)]
pub enum Format {
    /// A JSON object.
    Json {
        /// Where the time is.
        time: TimeRule,
        /// Unit of each column by name.
        units: BTreeMap<String, String>,
    },
    /// Bytes for a decoder.
    Raw {
        /// The decoder's name in the tenant's configuration.
        decoder: String,
    },
}

impl From<&gateway_config::Topic> for Rule {
    fn from(topic: &gateway_config::Topic) -> Self {
        let format = match &topic.format {
            gateway_config::Format::Json => {
                Format::Json { time: TimeRule::new(topic.time.as_ref()), units: topic.units.clone() }
            }
            gateway_config::Format::Raw { decoder } => Format::Raw { decoder: decoder.clone() },
        };
        Self {
            template: Template::new(&topic.filter, topic.tenant.clone(), topic.device.clone()),
            profile: topic.profile.clone(),
            format,
        }
    }
}
