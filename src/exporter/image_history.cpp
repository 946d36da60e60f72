#include "exporter/image_history.hpp"

#include <algorithm>
#include <charconv>

namespace cooper::exporter {

namespace {

// Two or four digits.
std::optional<int> digits(std::string_view text, std::size_t at, std::size_t count) {
    if (at + count > text.size()) return std::nullopt;
    int value = 0;
    for (std::size_t i = at; i < at + count; ++i) {
        if (text[i] < '0' || text[i] > '9') return std::nullopt;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

// Entries and layers pair up one to one afterwards.
void match_layers(std::vector<oci::HistoryEntry>& history, const std::vector<LayerFacts>& layers) {
    std::size_t used = 0;
    for (auto& entry : history) {
        if (entry.empty_layer) continue;
        if (used == layers.size()) {
            entry.empty_layer = true;
        } else {
            ++used;
        }
    }
    for (; used < layers.size(); ++used) {
        oci::HistoryEntry entry;
        entry.created = format_rfc3339(layers[used].created);
        entry.created_by = layers[used].description.empty() ? "created by cooper" : layers[used].description;
        entry.comment = "buildkit.exporter.image.v0";
        history.push_back(std::move(entry));
    }
}

// Entries of layers get the layer's time; the others that of the first new layer, or of the layer before them.
void fill_times(std::vector<oci::HistoryEntry>& history, const std::vector<LayerFacts>& layers) {
    std::size_t index = 0;
    for (auto& entry : history) {
        if (entry.empty_layer) continue;
        if (!entry.created) entry.created = format_rfc3339(layers[index].created);
        ++index;
    }
    std::optional<std::string> created;
    bool missing = false;
    for (const auto& entry : history) {
        if (!entry.created) {
            missing = true;
            continue;
        }
        created = entry.created;
        if (missing) break;
    }
    missing = false;
    for (auto& entry : history) {
        if (!entry.created) {
            missing = true;
            entry.created = created;
        } else if (missing) {
            created = entry.created;
        }
    }
}

void clamp(std::optional<std::string>& created, Timestamp epoch) {
    const auto time = created ? parse_rfc3339(*created) : std::nullopt;
    if (!time || *time > epoch) created = format_rfc3339(epoch);
}

}  // namespace

std::optional<Timestamp> parse_rfc3339(std::string_view text) {
    const auto year = digits(text, 0, 4);
    const auto month = digits(text, 5, 2);
    const auto day = digits(text, 8, 2);
    const auto hour = digits(text, 11, 2);
    const auto minute = digits(text, 14, 2);
    const auto second = digits(text, 17, 2);
    if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
    if (text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') || text[13] != ':' ||
        text[16] != ':') {
        return std::nullopt;
    }
    const std::chrono::year_month_day date(std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day)));
    // The years that 64 bits of nanoseconds can hold.
    if (!date.ok() || *year < 1678 || *year > 2261 || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
    std::int64_t nanoseconds = 0;
    std::size_t at = 19;
    if (at < text.size() && text[at] == '.') {
        std::int64_t unit = 100'000'000;
        for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) {
            nanoseconds += unit * (text[at] - '0');
        }
    }
    std::chrono::minutes offset{0};
    const bool utc = at + 1 == text.size() && (text[at] == 'Z' || text[at] == 'z');
    if (!utc) {
        if (at + 6 != text.size() || (text[at] != '+' && text[at] != '-') || text[at + 3] != ':') return std::nullopt;
        const auto hours = digits(text, at + 1, 2);
        const auto minutes = digits(text, at + 4, 2);
        if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
        offset = std::chrono::minutes(*hours * 60 + *minutes);
        if (text[at] == '-') offset = -offset;
    }
    const Timestamp days = std::chrono::sys_days(date);
    return days + std::chrono::hours(*hour) + std::chrono::minutes(*minute) + std::chrono::seconds(*second) +
           std::chrono::nanoseconds(nanoseconds) - offset;
}

void fill_history(oci::ImageConfig& config, const std::vector<LayerFacts>& layers,
                  const std::optional<oci::ImageConfig>& base, std::optional<std::int64_t> epoch_seconds) {
    match_layers(config.history, layers);
    fill_times(config.history, layers);
    if (epoch_seconds) {
        const Timestamp epoch{std::chrono::seconds(*epoch_seconds)};
        std::size_t same = 0;
        if (base) {
            const auto [mine, theirs] = std::ranges::mismatch(config.history, base->history);
            same = static_cast<std::size_t>(mine - config.history.begin());
        }
        for (std::size_t i = same; i < config.history.size(); ++i) clamp(config.history[i].created, epoch);
        if (config.created) clamp(config.created, epoch);
    }
    if (!config.created && !config.history.empty()) config.created = config.history.back().created;
    if (!config.created && epoch_seconds)
        config.created = format_rfc3339(Timestamp{std::chrono::seconds(*epoch_seconds)});
}

}  // namespace cooper::exporter
