// The text, behind zstd: lines, each a word and what belongs to it.
//
//   cooper-steps 1
//   list NAME here BASE64
//   list NAME blob DIGEST SIZE
//   step TIME JSON                 of an Ingredients
#include "why/travel.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/compression.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"
#include "why/redact.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <memory>

namespace cooper::why {

namespace {

constexpr std::string_view kMagic = "cooper-steps 1";
constexpr std::size_t kMaxPlain = 24U << 20U;
constexpr std::size_t kMaxLine = 256U << 10U;
constexpr std::size_t kMaxString = 4096;
constexpr std::size_t kMaxParts = 2'000;  // values, variables or inputs of one step
constexpr std::size_t kMaxLists = 10'000;
constexpr std::size_t kDigestBytes = 6;  // of a file, on the way
constexpr std::size_t kListName = 32;
constexpr int kLevel = 6;
constexpr std::size_t kTooShortToFind = 3;  // such a value is found in everything
constexpr std::string_view kMark = "***";

bool is_hex(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Digests of hidden values mean something only where their key is.
std::string without_keyed(std::string text) {
    for (auto at = text.find(kMark); at != std::string::npos; at = text.find(kMark, at)) {
        at += kMark.size();
        if (text.size() >= at + 8 && is_hex(std::string_view(text).substr(at, 8))) text.erase(at, 8);
    }
    return text;
}

std::string digest_of(std::string_view name, std::string_view value) {
    std::string all = "cooper value";
    all += '\0';
    all += name;
    all += '\0';
    all += value;
    return std::string(kMark) + codec::sha256_of(all).hex().substr(0, 8);
}

std::string compressed(std::string_view plain) {
    StringSink sink;
    auto compressor = codec::make_compressor(sink, codec::Compression::zstd, kLevel, 1);
    if (!compressor || !(*compressor)->write(as_bytes(plain)) || !(*compressor)->finish()) return {};
    return std::move(sink.text);
}

bool is_list_name(std::string_view name) { return name.size() == kListName && is_hex(name); }

bool fits(const Ingredients& step) {
    const auto short_enough = [](const std::string& text) { return text.size() <= kMaxString; };
    if (step.values.size() > kMaxParts || step.variables.size() > kMaxParts || step.inputs.size() > kMaxParts)
        return false;
    for (const auto* text : {&step.builder, &step.name, &step.kind, &step.text, &step.result}) {
        if (!short_enough(*text)) return false;
    }
    return std::ranges::all_of(step.values,
                               [&](const auto& one) { return short_enough(one.name) && short_enough(one.value); }) &&
           std::ranges::all_of(step.variables,
                               [&](const auto& one) {
                                   return short_enough(one.name) && short_enough(one.definition) &&
                                          short_enough(one.given);
                               }) &&
           std::ranges::all_of(step.inputs, [&](const auto& one) {
               return short_enough(one.step) && short_enough(one.image) && short_enough(one.digest) &&
                      short_enough(one.state) && short_enough(one.content) &&
                      (one.files.empty() || is_list_name(one.files));
           });
}

std::optional<ListPlace> parse_place(std::string_view text) {
    ListPlace place;
    const auto [kind, rest] = cut(text, ' ');
    if (!rest) return std::nullopt;
    if (kind == "here") {
        auto data = codec::base64_decode(*rest);
        if (!data || data->empty()) return std::nullopt;
        place.data = std::move(*data);
        return place;
    }
    const auto [name, size_text] = cut(*rest, ' ');
    const auto digest = Digest::parse(name);
    const auto size = size_text ? parse_int(*size_text) : std::nullopt;
    if (kind != "blob" || !digest || !size || *size <= 0 || static_cast<std::uint64_t>(*size) > kMaxListBytes)
        return std::nullopt;
    place.digest = *digest;
    place.size = static_cast<std::uint64_t>(*size);
    return place;
}

}  // namespace

std::string state_of_layers(const std::vector<Digest>& diff_ids) {
    std::string all;
    for (const auto& one : diff_ids) all += one.to_string() + "\n";
    return "layers " + codec::sha256_of(all).hex().substr(0, 32);
}

Ingredients portable(Ingredients step, const std::function<std::string(const std::string&)>& state) {
    step.project.clear();
    step.text = without_keyed(std::move(step.text));
    step.name = name_with(step.name, step.text);
    std::map<std::string, std::string> given;
    for (auto& variable : step.variables) {
        variable.definition = without_keyed(std::move(variable.definition));
        if (!variable.is_given) continue;
        if (is_hidden(variable.given)) {
            variable.given = without_keyed(std::move(variable.given));
        } else if (variable.given == variable.definition) {
            variable.is_given = false;  // it says what the Dockerfile says
            variable.given.clear();
        } else {
            given[variable.name] = variable.given;
            variable.given = digest_of(variable.name, variable.given);
        }
    }
    for (auto& [name, value] : step.values) {
        value = without_keyed(std::move(value));
        const auto own = name.starts_with("env ") ? given.find(name.substr(4)) : given.end();
        const bool shows =
            (own != given.end() && own->second == value) || std::ranges::any_of(given, [&](const auto& one) {
                return one.second.size() >= kTooShortToFind && value.find(one.second) != std::string::npos;
            });
        if (shows) value = digest_of(name, value);
    }
    for (auto& input : step.inputs) {
        input.state = state(input.state);
        if (!input.is_local) input.step = name_with(input.step, "");
    }
    step.result = state(step.result);
    return step;
}

std::set<std::string> portable(const std::set<std::string>& texts) {
    std::set<std::string> out;
    for (const auto& text : texts) out.insert(without_keyed(text));
    return out;
}

std::string name_with(const std::string& name, const std::string& text) {
    const std::size_t end = name.starts_with('[') ? name.find("] ") : std::string::npos;
    return end == std::string::npos ? text : name.substr(0, end + 2) + text;
}

void shorten(std::vector<FileEntry>& files) {
    for (auto& file : files) std::fill(file.digest.begin() + kDigestBytes, file.digest.end(), std::uint8_t{0});
}

std::optional<std::string> pack_for_travel(std::string_view packed) {
    auto files = unpack(packed);
    if (!files) return std::nullopt;
    shorten(*files);
    return pack(std::move(*files));
}

std::string to_text(const Travelling& travelling) {
    std::vector<std::string> steps;
    for (const auto& one : travelling.steps) {
        if (!fits(one.step)) continue;
        std::string line = fmt::format("step {} {}\n", format_rfc3339(one.created), to_json(one.step));
        if (line.size() <= kMaxLine) steps.push_back(std::move(line));
    }
    // By time: of too many the newest stay.
    std::ranges::sort(steps, std::greater<>());
    steps.erase(std::ranges::unique(steps).begin(), steps.end());
    std::string lists;
    for (const auto& [name, place] : travelling.lists) {
        lists += place.data.empty() ? fmt::format("list {} blob {} {}\n", name, place.digest.to_string(), place.size)
                                    : fmt::format("list {} here {}\n", name, codec::base64_encode(place.data));
    }
    std::string plain = fmt::format("{}\n{}", kMagic, lists);
    for (std::size_t i = 0; i < std::min(steps.size(), kMaxTravellingSteps); ++i) {
        if (plain.size() + steps[i].size() > kMaxPlain) break;
        plain += steps[i];
    }
    return compressed(plain);
}

std::optional<Travelling> parse_travelling(std::string_view text) {
    if (codec::detect_compression(as_bytes(text.substr(0, codec::kDetectBytes))) != codec::Compression::zstd)
        return std::nullopt;
    auto source = codec::make_decompressor(std::make_unique<StringSource>(std::string(text)), codec::Compression::zstd);
    if (!source) return std::nullopt;
    const auto plain = read_all(**source, kMaxPlain);
    if (!plain) return std::nullopt;
    std::string_view rest = *plain;
    const auto next_line = [&rest] {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        return line;
    };
    if (next_line() != kMagic) return std::nullopt;
    Travelling out;
    while (!rest.empty()) {
        const std::string_view line = next_line();
        const auto [word, values] = cut(line, ' ');
        if (!values) return std::nullopt;
        const auto [first, second] = cut(*values, ' ');
        if (!second) return std::nullopt;
        if (word == "list") {
            if (!is_list_name(first) || out.lists.size() == kMaxLists) return std::nullopt;
            auto place = parse_place(*second);
            if (!place) return std::nullopt;
            out.lists[std::string(first)] = std::move(*place);
        } else if (word == "step") {
            const auto created = codec::parse_rfc3339(first);
            if (!created || line.size() > kMaxLine || out.steps.size() == kMaxTravellingSteps) return std::nullopt;
            auto step = parse_ingredients(*second);
            if (!step || !fits(*step)) return std::nullopt;
            step->project.clear();
            out.steps.push_back({std::move(*step), *created});
        }
        // Other words are of later versions.
    }
    return out;
}

}  // namespace cooper::why
