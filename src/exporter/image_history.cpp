#include "exporter/image_history.hpp"

#include "codec/rfc3339.hpp"

#include <algorithm>

namespace cooper::exporter {

namespace {

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
    const auto time = created ? codec::parse_rfc3339(*created) : std::nullopt;
    if (!time || *time > epoch) created = format_rfc3339(epoch);
}

}  // namespace

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
