// GoJson: writes JSON byte for byte as Go's encoding/json does, because digests of such texts are compared with
// BuildKit's: '<', '>', '&', U+2028 and U+2029 escaped, invalid UTF-8 replaced by U+FFFD, []byte as base64, keys in
// call order (map() sorts, as Go does for maps). Misuse (a value without key …) is our bug: CHECKed.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::codec {

class GoJson {
public:
    // Compact, as json.Marshal.
    GoJson() = default;
    // As json.MarshalIndent(v, "", indent).
    explicit GoJson(std::string indent) : indent_(std::move(indent)) {}

    GoJson& begin_object();
    GoJson& end_object();
    GoJson& begin_array();
    GoJson& end_array();
    GoJson& key(std::string_view name);

    GoJson& string(std::string_view text);
    GoJson& bytes(std::string_view raw);  // []byte: base64
    GoJson& integer(std::int64_t value);
    GoJson& unsigned_integer(std::uint64_t value);
    GoJson& number(double value);  // finite
    GoJson& boolean(bool value);
    GoJson& null();
    // Text that is JSON already, compact (json.RawMessage).
    GoJson& raw(std::string_view json);
    GoJson& strings(std::span<const std::string> list);
    GoJson& map(const std::map<std::string, std::string>& map);

    // Names and values at once.
    GoJson& field(std::string_view name, std::string_view text) { return key(name).string(text); }

    [[nodiscard]] const std::string& text() const;  // complete
    [[nodiscard]] std::string take() &&;

private:
    void before_value();
    void open(char bracket);
    void close(char bracket);
    void new_line();

    struct Level {
        bool object = false;
        bool empty = true;
    };
    std::string indent_;
    std::string out_;
    std::vector<Level> levels_;
    bool after_key_ = false;
};

// One string as a JSON literal with quotes.
void append_go_json_string(std::string& out, std::string_view text);

}  // namespace cooper::codec
