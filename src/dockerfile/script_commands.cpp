#include "dockerfile/script_commands.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>

namespace cooper::dockerfile {

namespace {

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_assignment(std::string_view word) {
    const auto [name, value] = cut(word, '=');
    return value && !name.empty() && is_name_start(name.front()) &&
           std::ranges::all_of(name, [](char c) { return is_name_start(c) || (c >= '0' && c <= '9'); });
}

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& list) {
    return std::ranges::find(list, word) != list.end();
}

std::string base_of(std::string_view word) {
    const std::size_t slash = word.rfind('/');
    return std::string(slash == std::string_view::npos ? word : word.substr(slash + 1));
}

bool is_shell(std::string_view program) {
    static constexpr std::array<std::string_view, 5> kShells = {"sh", "bash", "dash", "ash", "zsh"};
    return is_one_of(program, kShells);
}

// Words of one simple command to a ScriptCommand; empty words when nothing is left.
ScriptCommand to_command(std::vector<std::string> words) {
    // Words that only steer, before the command they steer.
    static constexpr std::array<std::string_view, 10> kKeywords = {"if",    "then", "else", "elif", "while",
                                                                   "until", "do",   "!",    "{",    "time"};
    static constexpr std::array<std::string_view, 8> kWrappers = {"sudo",  "env",   "exec",      "command",
                                                                  "nohup", "xargs", "eatmydata", "nice"};
    ScriptCommand out;
    auto at = words.begin();
    while (at != words.end()) {
        if (is_assignment(*at)) {
            out.assignments.push_back(*at++);
        } else if (is_one_of(*at, kKeywords)) {
            ++at;
        } else if (is_one_of(base_of(*at), kWrappers)) {
            ++at;
            while (at != words.end() && at->starts_with('-')) ++at;
        } else {
            break;
        }
    }
    out.words.assign(std::make_move_iterator(at), std::make_move_iterator(words.end()));
    if (out.words.empty()) return out;
    out.words.front() = base_of(out.words.front());
    if (out.words.front() == "export") {
        for (const std::string& word : out.words) {
            if (is_assignment(word)) out.assignments.push_back(word);
        }
    }
    const bool python_module = out.words.front().starts_with("python") && out.words.size() > 2 && out.words[1] == "-m";
    if (python_module) out.words.erase(out.words.begin(), out.words.begin() + 2);
    return out;
}

class ScriptReader {
public:
    explicit ScriptReader(std::string_view text) : text_(text) {}

    std::vector<ScriptCommand> run() {
        while (at_ < text_.size()) step();
        end_command();
        return std::move(out_);
    }

private:
    void step() {
        const char c = text_[at_];
        if (c == '\\') {
            escape();
        } else if (c == '\'') {
            single_quotes();
        } else if (c == '"') {
            double_quotes();
        } else if (c == '$' && at_ + 1 < text_.size() && (text_[at_ + 1] == '(' || text_[at_ + 1] == '{')) {
            substitution();
        } else if (c == ' ' || c == '\t' || c == '\r') {
            end_word();
            ++at_;
        } else if (c == '#' && !in_word_) {
            at_ = std::min(text_.find('\n', at_), text_.size());
        } else if (c == ';' || c == '&' || c == '|' || c == '\n' || c == '(' || c == ')') {
            separator();
        } else if (c == '<' || c == '>') {
            redirection();
        } else {
            add(c);
            ++at_;
        }
    }

    void add(char c) {
        word_ += c;
        in_word_ = true;
    }

    void escape() {
        if (at_ + 1 < text_.size() && text_[at_ + 1] != '\n') add(text_[at_ + 1]);
        at_ += 2;
    }

    void single_quotes() {
        const std::size_t end = std::min(text_.find('\'', at_ + 1), text_.size());
        word_ += text_.substr(at_ + 1, end - at_ - 1);
        in_word_ = true;
        at_ = end + 1;
    }

    void double_quotes() {
        in_word_ = true;
        for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
            word_ += text_[at_];
        }
        ++at_;
    }

    // "$(…)" and "${…}" stay one word, whatever is in them.
    void substitution() {
        int depth = 0;
        do {
            const char c = text_[at_++];
            if (c == '(' || c == '{') ++depth;
            if (c == ')' || c == '}') --depth;
            add(c);
        } while (at_ < text_.size() && (depth > 0 || word_.back() == '$'));
    }

    void separator() {
        end_command();
        ++at_;
    }

    // ">file", "2>&1": neither sign nor target is a word of the command.
    void redirection() {
        const bool number = std::ranges::all_of(word_, [](char c) { return c >= '0' && c <= '9'; });
        if (number) {
            word_.clear();
            in_word_ = false;
        }
        end_word();
        while (at_ < text_.size() && (text_[at_] == '<' || text_[at_] == '>' || text_[at_] == '&')) ++at_;
        skip_word_ = true;
    }

    void end_word() {
        if (!in_word_) return;
        if (!skip_word_) words_.push_back(std::move(word_));
        skip_word_ = false;
        word_.clear();
        in_word_ = false;
    }

    void end_command() {
        end_word();
        skip_word_ = false;
        if (!words_.empty()) {
            ScriptCommand command = to_command(std::move(words_));
            if (!command.words.empty() || !command.assignments.empty()) out_.push_back(std::move(command));
        }
        words_.clear();
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::string word_;
    bool in_word_ = false;
    bool skip_word_ = false;
    std::vector<std::string> words_;
    std::vector<ScriptCommand> out_;
};

// "#!/bin/sh -e": an interpreter that is no shell speaks another language.
bool is_shell_script(std::string_view body) {
    if (!body.starts_with("#!")) return true;
    const std::string_view line = trim(body.substr(2, body.find('\n') - 2));
    std::vector<std::string> words = split(line, ' ');
    std::erase(words, "");
    if (!words.empty() && base_of(words.front()) == "env") words.erase(words.begin());
    return !words.empty() && is_shell(base_of(words.front()));
}

void append(std::vector<ScriptCommand>& to, std::vector<ScriptCommand> from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

std::vector<ScriptCommand> script_commands(std::string_view script) {
    if (script.size() > kMaxScript) return {};
    return ScriptReader(script).run();
}

std::vector<ScriptCommand> run_commands(const RunCommand& run) {
    if (run.words.empty()) return {};
    if (run.prepend_shell) {
        const std::string& text = run.words.front();
        const bool whole = is_whole_heredoc(text);
        std::vector<ScriptCommand> out;
        if (!whole) out = script_commands(text);
        const bool shell_reads = whole || (!out.empty() && is_shell(out.front().program()));
        for (const Heredoc& doc : run.heredocs) {
            if (shell_reads && is_shell_script(doc.data)) append(out, script_commands(doc.data));
        }
        return out;
    }
    if (run.words.size() > 2 && is_shell(base_of(run.words[0])) && run.words[1].starts_with('-') &&
        run.words[1].find('c') != std::string::npos) {
        return script_commands(run.words[2]);
    }
    ScriptCommand command = to_command(run.words);
    if (command.words.empty()) return {};
    return {std::move(command)};
}

}  // namespace cooper::dockerfile
