//! From a topic to whose reading it is.
//!
//! A rule's filter is an MQTT topic filter in which a whole level may also be `{tenant}` or `{device}`:
//! `site/{tenant}/{device}/telemetry`. What the topic does not name, the rule fixes. Does not check a filter's syntax
//! (`gateway_config::topic` does), does not subscribe, does not know which tenants exist (see `rows`).
//!
//! Invariants: a rule always yields a tenant and a device; names from a topic are checked before they are used;
//! a wildcard or placeholder at the first level never matches a topic that starts with `$` (MQTT 4.7.2).

use gateway_config::{Segment, TopicFilter};
use wire::ids::{DeviceId, NameError, TenantId};

/// A filter with what its rule fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Segment>,
    tenant: Option<TenantId>,
    device: Option<DeviceId>,
}

/// What a topic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which device sent it.
    pub device: DeviceId,
}

impl Template {
    /// A filter; `tenant` and `device` are fixed by the rule where the filter does not name them.
    #[must_use]
    pub fn new(filter: &TopicFilter, tenant: Option<TenantId>, device: Option<DeviceId>) -> Self {
        Self { levels: filter.segments().to_vec(), tenant, device }
    }

    /// Matches a topic; `None` if the filter does not.
    #[must_use]
    pub fn names(&self, topic: &str) -> Option<Result<Names, NameError>> {
        let (tenant, device) = self.levels_of(topic)?;
        Some(self.checked(tenant, device))
    }

    fn levels_of<'t>(&self, topic: &'t str) -> Option<(Option<&'t str>, Option<&'t str>)> {
        let system = topic.starts_with('$');
        let (mut tenant, mut device) = (None, None);
        let mut parts = topic.split('/');
        for (at, level) in self.levels.iter().enumerate() {
            if *level == Segment::Rest {
                // "a/#" also matches "a" (MQTT 4.7.1.2): the parent level has been consumed already.
                return if system && at == 0 { None } else { Some((tenant, device)) };
            }
            let part = parts.next()?;
            match level {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                _ if system && at == 0 => return None,
                Segment::Tenant => tenant = Some(part),
                Segment::Device => device = Some(part),
                Segment::Any | Segment::Rest => {}
            }
        }
        parts.next().is_none().then_some((tenant, device))
    }

    fn checked(&self, tenant: Option<&str>, device: Option<&str>) -> Result<Names, NameError> {
        let tenant = match (&self.tenant, tenant) {
            (Some(fixed), _) => fixed.clone(),
            (None, text) => TenantId::new(text.unwrap_or_default())?,
        };
        let device = match (&self.device, device) {
            (Some(fixed), _) => fixed.clone(),
            (None, text) => DeviceId::new(text.unwrap_or_default())?,
        };
        Ok(Names { tenant, device })
    }
}

/// The last few topics of one connection and what they resolved to: a device publishes on one or two topics, so most
/// messages need no matching and no hashing.
#[derive(Debug)]
pub struct TopicCache<T> {
    entries: Vec<(Box<str>, T)>,
    next: usize,
}

impl<T: Copy> TopicCache<T> {
    /// Topics kept; a connection that uses more in turn is resolved by hash instead.
    pub const ENTRIES: usize = 4;

    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Vec::new(), next: 0 }
    }

    /// These topic bytes as the text they are known to be, and what it resolved to.
    #[inline]
    #[must_use]
    pub fn get(&self, topic: &[u8]) -> Option<(&str, T)> {
        let (text, target) = self.entries.iter().find(|(known, _)| known.as_bytes() == topic)?;
        Some((text, *target))
    }

    /// Keeps an answer in place of the oldest.
    pub fn put(&mut self, topic: &str, target: T) {
        if let Some(entry) = self.entries.iter_mut().find(|(known, _)| **known == *topic) {
            entry.1 = target;
            return;
        }
        let entry = (Box::from(topic), target);
        if self.entries.len() < Self::ENTRIES {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.get_mut(self.next) {
            *oldest = entry;
            self.next = (self.next + 1) % Self::ENTRIES;
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.next = 0;
    }
}

impl<T: Copy> Default for TopicCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(filter: &str) -> Template {
        Template::new(&TopicFilter::parse(filter).unwrap(), None, None)
    }

    fn names(filter: &str, topic: &str) -> Option<(String, String)> {
        let template = template(filter);
        let names = template.names(topic)?.unwrap();
        Some((names.tenant.to_string(), names.device.as_str().to_owned()))
    }

    fn fixed(filter: &str) -> Template {
        let filter = TopicFilter::parse(filter).unwrap();
        Template::new(&filter, Some(TenantId::new("acme").unwrap()), Some(DeviceId::new("pump").unwrap()))
    }

    #[test]
    fn placeholders_name_tenant_and_device() {
        let pair = |tenant: &str, device: &str| Some((tenant.to_owned(), device.to_owned()));
        let filter = "site/{tenant}/{device}/telemetry";
        assert_eq!(names(filter, "site/acme/Pump 7/telemetry"), pair("acme", "Pump 7"));
        assert_eq!(names(filter, "site/acme/p/telemetry/x"), None);
        assert_eq!(names(filter, "site/acme/p"), None);
        assert_eq!(names(filter, "other/acme/p/telemetry"), None);
        assert_eq!(names("{device}/+/{tenant}/#", "p/x/acme/a/b"), pair("acme", "p"));
        assert_eq!(names("{device}/+/{tenant}/#", "p/x/acme"), pair("acme", "p"));
        assert_eq!(names("{device}/+/{tenant}/#", "p/x"), None);
    }

    #[test]
    fn wildcards_match_as_mqtt_says() {
        let matches = |filter: &str, topic: &str| fixed(filter).names(topic).is_some();
        assert!(matches("#", "a/b"));
        assert!(matches("+/b", "/b"));
        assert!(matches("a/+", "a/"));
        assert!(!matches("a/+", "a"));
        assert!(!matches("+", "/b"));
        assert!(!matches("#", "$SYS/x"));
        assert!(!matches("+/x", "$SYS/x"));
        assert!(matches("$SYS/+", "$SYS/x"));
    }

    #[test]
    fn names_from_a_topic_are_checked() {
        let template = template("{tenant}/{device}");
        assert!(template.names("ACME/p").unwrap().is_err());
        assert!(template.names("acme/").unwrap().is_err());
        assert!(template.names("acme/a\u{1}").unwrap().is_err());
    }

    #[test]
    fn the_cache_keeps_the_last_topics() {
        let mut cache = TopicCache::new();
        for (topic, target) in ["a", "b", "c", "d", "e", "f"].into_iter().zip(0..) {
            cache.put(topic, target);
        }
        assert_eq!(cache.get(b"a"), None);
        assert_eq!(cache.get(b"b"), None);
        assert_eq!(cache.get(b"c"), Some(("c", 2)));
        assert_eq!(cache.get(b"f"), Some(("f", 5)));
    }
}
