/**
 * A policy of `figleaf calibrate`: what is done with a picture, by its score. The page and the Node command judge by this
 * module as `figleaf predict --policy` does: logits are divided by the temperature, rules are tried from the strictest
 * on, what is below the last passes, and what has no score is to be reviewed.
 */

import { NetworkError, softmax } from "./network.js";

/** From the strictest on. */
const ACTIONS = ["block", "blur", "review", "pass"];
const FORMAT = 1;
const [COLDEST, HOTTEST] = [0.01, 100];

/** What is done with something that could not be scored: it may be anything, so people look at it. */
export const UNREADABLE = "review";

/**
 * @typedef {object} Policy
 * @property {number} temperature
 * @property {{action: string, at_least: number, why: string}[]} rules by falling scores
 */

/** What is done with a picture of this score. */
export function actionOf(policy, score) {
  return policy.rules.find((rule) => score >= rule.at_least)?.action ?? "pass";
}

/**
 * A network's answer as the policy sees it: `probabilities` and `score` at its temperature, and `action`; a picture is
 * `flagged` unless it passes. Without a policy (null) the answer as it is.
 */
export function judged(policy, answer, { classes, unsafe }) {
  if (!policy) return answer;
  const probabilities = softmax(Array.from(answer.logits, (logit) => logit / policy.temperature));
  const score = Math.min(1, probabilities.reduce((sum, value, place) => sum + (unsafe.includes(classes[place]) ? value : 0), 0));
  const action = actionOf(policy, score);
  return { ...answer, probabilities, score, action, flagged: action !== "pass" };
}

/**
 * The policy in the text of a file.
 *
 * @param {string} text
 * @param {{classes: string[], unsafe: string[], runId: string}} network that it has to be made for
 * @returns {Policy}
 * @throws {NetworkError} when it is none, or was made for another network
 */
export function policyOf(text, { classes, unsafe, runId }) {
  const found = parsed(text);
  const wrong = (what) => new NetworkError(`${what}; \`figleaf calibrate\` writes such a file`);
  if (found?.format !== FORMAT) throw wrong(`format: expected ${FORMAT}`);
  const same = (a, b) => Array.isArray(a) && a.length === b.length && a.every((name, at) => name === b[at]);
  const sorted = (names) => (Array.isArray(names) ? [...names].sort() : null);
  if (!same(found.classes, classes) || !same(sorted(found.unsafe), sorted(unsafe))) {
    throw new NetworkError(`made for the classes ${found.classes} (unsafe: ${found.unsafe}), and the network has ${classes} (unsafe: ${unsafe})`);
  }
  if (found.run_id && runId && found.run_id !== runId) {
    throw new NetworkError(`made for the run ${found.run_id}, and the network is of ${runId}, whose scores mean something else`);
  }
  const temperature = found.temperature ?? 1;
  if (!within(temperature, COLDEST, HOTTEST)) throw wrong(`temperature: expected a number from ${COLDEST} to ${HOTTEST}`);
  const { rules } = found;
  if (!Array.isArray(rules) || !rules.length) throw wrong("rules: expected a list of action and at_least, one at least");
  for (const rule of rules) {
    if (!ACTIONS.includes(rule?.action)) throw wrong(`action: expected one of ${ACTIONS.join(", ")}`);
    if (!within(rule.at_least, 0, 1)) throw wrong("at_least: expected a score from 0 to 1");
  }
  const falls = (rule, at) => at === 0 || (rules[at - 1].at_least > rule.at_least && ACTIONS.indexOf(rules[at - 1].action) < ACTIONS.indexOf(rule.action));
  if (!rules.every(falls)) throw wrong("rules: expected falling scores, the strictest first");
  return { temperature, rules: rules.map(({ action, at_least: least, why }) => ({ action, at_least: least, why: String(why ?? "") })) };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NetworkError(`no policy (${error.message}); \`figleaf calibrate\` writes one`);
  }
}

function within(value, low, high) {
  return typeof value === "number" && value >= low && value <= high;
}
