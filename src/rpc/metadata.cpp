#include "rpc/message_stream.hpp"

#include <algorithm>
#include <grpcpp/server_context.h>

namespace cooper::rpc {

namespace {

bool fits_in_header(std::string_view value) {
    return std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// As Go's url.QueryEscape.
std::string query_escape(std::string_view value) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string out;
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            std::string_view("-_.~").find(c) != std::string_view::npos) {
            out += c;
        } else if (c == ' ') {
            out += '+';
        } else {
            out += {'%', kHex[byte >> 4U], kHex[byte & 0xfU]};
        }
    }
    return out;
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// As Go's url.QueryUnescape, whose error leaves an empty text.
std::string query_unescape(std::string_view value) {
    std::string out;
    for (std::size_t i = 0; i < value.size(); ++i) {
        if (value[i] == '+') {
            out += ' ';
        } else if (value[i] != '%') {
            out += value[i];
        } else {
            const int high = i + 2 < value.size() ? hex_value(value[i + 1]) : -1;
            const int low = i + 2 < value.size() ? hex_value(value[i + 2]) : -1;
            if (high < 0 || low < 0) return {};
            out += static_cast<char>(high * 16 + low);
            i += 2;
        }
    }
    return out;
}

}  // namespace

Metadata metadata_of(const grpc::ServerContext& context) {
    Metadata metadata;
    for (const auto& [key, value] : context.client_metadata()) {
        metadata.emplace_back(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
    }
    return metadata;
}

void add_encoded(Metadata& metadata, const std::string& key, std::vector<std::string> values) {
    const bool plain = std::all_of(values.begin(), values.end(), fits_in_header);
    for (auto& value : values) metadata.emplace_back(key, plain ? std::move(value) : query_escape(value));
    if (!plain) metadata.emplace_back(key + "-encoded", "1");
}

std::vector<std::string> decoded_values(const Metadata& metadata, std::string_view key) {
    const std::string_view encoded = find_value(metadata, std::string(key) + "-encoded");
    std::vector<std::string> values;
    for (const auto& [name, value] : metadata) {
        if (name == key) values.push_back(encoded == "1" || encoded == "true" ? query_unescape(value) : value);
    }
    return values;
}

std::string_view find_value(const Metadata& metadata, std::string_view key) {
    for (const auto& [name, value] : metadata) {
        if (name == key) return value;
    }
    return {};
}

}  // namespace cooper::rpc
