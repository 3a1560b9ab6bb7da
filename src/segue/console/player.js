// A player that plays nothing anybody owns: a clock per track and, if wanted, a little tune composed from its id.
// It counts the milliseconds that were heard, as a real one does; what the clock skips over was not heard.

import { random } from "./covers.js";

const UNKNOWN_LENGTH = 180_000;
const TICK = 200;

export class Player extends EventTarget {
  track = null;
  playing = false;
  position = 0;
  heard = 0;
  speed = 1;
  #sound = new Tune();
  #last = 0;

  constructor() {
    super();
    setInterval(() => this.#tick(), TICK);
  }

  get length() {
    return this.track?.duration_ms || UNKNOWN_LENGTH;
  }

  get audible() {
    return this.#sound.on;
  }

  start(track) {
    this.leave();
    Object.assign(this, { track, position: 0, heard: 0 });
    this.resume();
  }

  resume() {
    if (!this.track) return;
    this.playing = true;
    this.#last = performance.now();
    this.#sound.play(this.track.track_id);
    this.#changed();
  }

  pause() {
    this.#tick();
    this.playing = false;
    this.#sound.stop();
    this.#changed();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.resume();
  }

  seek(ms) {
    this.position = Math.min(ms, this.length);
    this.#changed();
  }

  setSound(on) {
    this.#sound.on = on;
    if (on && this.playing) this.#sound.play(this.track.track_id);
    if (!on) this.#sound.stop();
    this.#changed();
  }

  /** Ends the present track and says how much of it was heard. */
  leave() {
    if (!this.track) return;
    if (this.playing) this.#tick(true);
    const detail = { track: this.track, heard: Math.round(Math.min(this.heard, this.length)) };
    this.track = null;
    this.playing = false;
    this.#sound.stop();
    this.dispatchEvent(new CustomEvent("left", { detail }));
    this.#changed();
  }

  #tick(leaving = false) {
    if (!this.playing) return;
    const now = performance.now();
    const passed = Math.min((now - this.#last) * this.speed, this.length - this.position);
    this.#last = now;
    this.position += passed;
    this.heard += passed;
    if (this.position >= this.length && !leaving) {
      this.leave();
      this.dispatchEvent(new Event("ended"));
    } else {
      this.dispatchEvent(new Event("time"));
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const SCALES = [[0, 3, 5, 7, 10], [0, 2, 4, 7, 9], [0, 2, 3, 7, 8], [0, 2, 5, 7, 9]];

/** A loop of sixteen steps: a scale, a tempo, a bass and an arpeggio, all drawn from the track's id. */
class Tune {
  on = false;
  #context = null;
  #timer = 0;
  #out = null;

  play(id) {
    this.stop();
    if (!this.on) return;
    this.#context ??= new AudioContext();
    this.#context.resume();
    const r = random(`tune ${id}`);
    const scale = SCALES[Math.floor(r() * SCALES.length)];
    const root = 38 + Math.floor(r() * 12);
    const beat = 60 / (76 + r() * 60) / 2;
    const lead = Array.from({ length: 16 }, () => (r() < 0.68 ? scale[Math.floor(r() * 5)] + 12 * (1 + Math.floor(r() * 2)) : null));
    const bass = Array.from({ length: 16 }, (_, i) => (i % 8 === 0 ? 0 : r() < 0.2 ? scale[Math.floor(r() * 3)] : null));
    const wave = ["triangle", "sine", "sawtooth"][Math.floor(r() * 3)];
    this.#out = this.#context.createGain();
    this.#out.gain.value = 0.16;
    this.#out.connect(this.#context.destination);
    let step = 0;
    let at = this.#context.currentTime + 0.05;
    const ahead = () => {
      for (; at < this.#context.currentTime + 0.3; at += beat, step = (step + 1) % 16) {
        if (lead[step] != null) this.#note(root + lead[step], at, beat * 1.8, wave, 0.35);
        if (bass[step] != null) this.#note(root + bass[step], at, beat * 3.5, "sine", 0.8);
      }
    };
    ahead();
    this.#timer = setInterval(ahead, 100);
  }

  stop() {
    clearInterval(this.#timer);
    this.#out?.disconnect();
    this.#out = null;
  }

  #note(pitch, at, lasts, wave, loud) {
    const tone = this.#context.createOscillator();
    const gain = this.#context.createGain();
    tone.type = wave;
    tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    gain.gain.setValueAtTime(0.0001, at);
    gain.gain.exponentialRampToValueAtTime(loud, at + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, at + lasts);
    tone.connect(gain).connect(this.#out);
    tone.start(at);
    tone.stop(at + lasts + 0.05);
  }
}
