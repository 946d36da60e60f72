// JSON as Go's encoding/json prints structs with `omitempty` fields: what cache keys are hashed from.
#pragma once

#include "codec/go_json.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::llb::detail {

// ["a","b"]; "" for an empty list.
[[nodiscard]] std::string json_array(const std::vector<std::string>& values);

// One object. Every member but those named always_* is left out when empty or zero.
class GoObject {
public:
    void text(std::string_view name, std::string_view value) {
        if (!value.empty()) always_text(name, value);
    }
    void always_text(std::string_view name, std::string_view value) {
        begin(name);
        codec::append_go_json_string(out_, value);
    }
    void number(std::string_view name, std::int64_t value) {
        if (value != 0) always_raw(name, std::to_string(value));
    }
    void boolean(std::string_view name, bool value) {
        if (value) always_raw(name, "true");
    }
    void texts(std::string_view name, const std::vector<std::string>& values) {
        if (!values.empty()) always_raw(name, json_array(values));
    }
    void text_map(std::string_view name, const std::map<std::string, std::string>& values);
    // A present message, printed even when it is {}.
    void always_raw(std::string_view name, std::string_view json) {
        begin(name);
        out_ += json;
    }
    [[nodiscard]] std::string take() { return std::move(out_) + "}"; }

private:
    void begin(std::string_view name) {
        if (out_.size() > 1) out_ += ',';
        codec::append_go_json_string(out_, name);
        out_ += ':';
    }
    std::string out_ = "{";
};

// [a,b] from already printed elements.
[[nodiscard]] std::string json_list(const std::vector<std::string>& elements);

}  // namespace cooper::llb::detail
