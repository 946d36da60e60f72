#include "why/redact.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace cooper::why {

namespace {

constexpr std::string_view kMark = "***";
constexpr std::size_t kMaxText = 600;
constexpr std::size_t kSecretLength = 20;

bool is_token_char(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '_' || c == '=' || c == '-' || c == '/';
}

// Letters and digits mixed as only chance mixes them.
bool looks_random(std::string_view value) {
    if (value.size() < kSecretLength || !std::all_of(value.begin(), value.end(), is_token_char)) return false;
    // Paths have slashes; base64 has few.
    if (std::count(value.begin(), value.end(), '/') > 2 || value.starts_with('/')) return false;
    std::size_t digits = 0;
    std::size_t changes = 0;
    int last = -1;
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        const int kind = std::isdigit(byte) != 0 ? 0 : std::isupper(byte) != 0 ? 1 : std::islower(byte) != 0 ? 2 : 3;
        if (kind == 0) ++digits;
        if (kind != last) ++changes;
        last = kind;
    }
    return digits >= 3 && changes * 3 >= value.size();
}

}  // namespace

bool names_secret(std::string_view name) {
    static constexpr std::array<std::string_view, 10> kWords = {
        "token", "secret", "passw", "pwd", "apikey", "api_key", "access_key", "private", "credential", "auth"};
    const std::string lower = to_lower(name);
    if (lower == "pwd" || lower.find("author") != std::string::npos) return false;
    return std::any_of(kWords.begin(), kWords.end(),
                       [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

bool looks_secret(std::string_view value) {
    static constexpr std::array<std::string_view, 13> kStarts = {"ghp_",  "gho_",  "ghs_",      "github_pat_", "glpat-",
                                                                 "xoxb-", "xoxp-", "AKIA",      "ASIA",        "sk-",
                                                                 "eyJ",   "npm_",  "-----BEGIN"};
    if (value.size() >= 12 &&
        std::any_of(kStarts.begin(), kStarts.end(), [&](std::string_view start) { return value.starts_with(start); })) {
        return true;
    }
    // https://user:password@host
    if (const auto scheme = value.find("://"); scheme != std::string_view::npos) {
        const std::string_view rest = value.substr(scheme + 3);
        const std::string_view authority = rest.substr(0, rest.find('/'));
        if (authority.find('@') != std::string_view::npos && authority.find(':') < authority.find('@')) return true;
        return false;
    }
    if (value.starts_with("sha256:")) return false;
    return looks_random(value);
}

std::string Redactor::hidden(std::string_view value) const {
    const std::string inner = codec::sha256_of(key_ + std::string(1, '\0') + std::string(value)).hex();
    return std::string(kMark) + codec::sha256_of(key_ + inner).hex().substr(0, 8);
}

bool is_hidden(std::string_view text) { return text.find(kMark) != std::string_view::npos; }

bool is_withheld(std::string_view text) {
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    for (auto at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark, at)) {
        at += kMark.size();
        const std::string_view digest = text.substr(at, 8);
        if (digest.size() < 8 || !std::all_of(digest.begin(), digest.end(), is_hex)) return true;
    }
    return false;
}

std::string Redactor::shortened(std::string text) const {
    if (text.size() <= kMaxText) return text;
    const std::string rest = codec::sha256_of(text).hex().substr(0, 16);
    std::size_t end = kMaxText - 20;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
    text.resize(end);
    return text + "… " + rest;
}

std::string Redactor::value(std::string_view name, std::string_view value) const {
    if (!value.empty() && (names_secret(name) || looks_secret(value))) return hidden(value);
    return text(value);
}

Redactor Redactor::knowing(std::vector<std::string> secrets) const {
    Redactor out(key_);
    out.secrets_ = std::move(secrets);
    // Shorter ones would tear words apart that have nothing to do with them.
    std::erase_if(out.secrets_, [](const std::string& secret) { return secret.size() < 3; });
    std::sort(out.secrets_.begin(), out.secrets_.end(),
              [](const auto& a, const auto& b) { return a.size() != b.size() ? a.size() > b.size() : a < b; });
    out.secrets_.erase(std::unique(out.secrets_.begin(), out.secrets_.end()), out.secrets_.end());
    return out;
}

std::string Redactor::text(std::string_view given) const {
    std::string known(given);
    for (const auto& secret : secrets_) {
        for (auto at = known.find(secret); at != std::string::npos; at = known.find(secret, at)) {
            const std::string mark = hidden(secret);
            known.replace(at, secret.size(), mark);
            at += mark.size();
        }
    }
    const std::string_view text = known;
    static constexpr std::string_view kBetween = " \t\n\"'`;,()";
    std::string out;
    out.reserve(text.size());
    std::size_t at = 0;
    bool announced = false;  // "Bearer", "--password": the next word is the secret
    while (at < text.size()) {
        const std::size_t word_at = std::min(text.find_first_not_of(kBetween, at), text.size());
        out += text.substr(at, word_at - at);
        const std::size_t end = std::min(text.find_first_of(kBetween, word_at), text.size());
        const std::string_view word = text.substr(word_at, end - word_at);
        at = end;
        if (word.empty()) break;
        const auto [name, value] = cut(word, '=');
        const std::string lower = to_lower(word);
        if (value && !value->empty() && !value->starts_with('$') && (names_secret(name) || looks_secret(*value)) &&
            name.find("type") == std::string_view::npos) {
            out += name;
            out += '=';
            out += hidden(*value);
        } else if ((announced && !word.starts_with('$') && !word.starts_with('-')) || looks_secret(word)) {
            out += hidden(word);
        } else {
            out += word;
        }
        announced = lower == "bearer" || lower == "basic" || lower == "--password" || lower == "--token";
    }
    return shortened(std::move(out));
}

}  // namespace cooper::why
