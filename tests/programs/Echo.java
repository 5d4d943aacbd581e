// SPDX-License-Identifier: BSD-2-Clause

import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Random;

/**
 * java Echo.java serve PORT: a selector whose channels send back what they get.
 * java Echo.java ask HOST PORT MESSAGES: messages of random sizes, one at a time, over a blocking channel and over one that is read by a
 * selector; prints how many came back right.
 */
public class Echo {
	static void echo(SelectionKey key) throws Exception {
		SocketChannel channel = (SocketChannel)key.channel();
		ByteBuffer buffer = (ByteBuffer)key.attachment();
		if (key.isReadable() && channel.read(buffer) < 0 && buffer.position() == 0) {
			channel.close();
			return;
		}
		buffer.flip();
		channel.write(buffer);
		key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
		buffer.compact();
	}

	static void serve(int port) throws Exception {
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open();
		listener.bind(new InetSocketAddress(port));
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		for (;;) {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (!key.isAcceptable()) {
					echo(key);
					continue;
				}
				SocketChannel channel = listener.accept();
				channel.configureBlocking(false);
				channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(1 << 16));
			}
			selector.selectedKeys().clear();
		}
	}

	static void exchange(SocketChannel channel, Selector selector, byte[] data) throws Exception {
		ByteBuffer out = ByteBuffer.wrap(data), in = ByteBuffer.allocate(data.length);
		while (in.hasRemaining()) {
			if (out.hasRemaining())
				channel.write(out);
			if (channel.read(in) < 0)
				throw new Exception("the connection ended");
			if (in.hasRemaining() && selector != null) {
				channel.keyFor(selector).interestOps(SelectionKey.OP_READ | (out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
				selector.select();
				selector.selectedKeys().clear();
			}
		}
		if (!java.util.Arrays.equals(data, in.array()))
			throw new Exception("other bytes came back");
	}

	static int ask(InetSocketAddress to, int messages, boolean blocking) throws Exception {
		SocketChannel channel = SocketChannel.open(to);
		Selector selector = blocking ? null : Selector.open();
		Random random = new Random(1);
		if (!blocking) {
			channel.configureBlocking(false);
			channel.register(selector, SelectionKey.OP_READ);
		}
		for (int i = 0; i < messages; i++) {
			byte[] data = new byte[1 << random.nextInt(14)];
			random.nextBytes(data);
			exchange(channel, selector, data);
		}
		channel.close();
		return messages;
	}

	public static void main(String[] args) throws Exception {
		if (args[0].equals("serve"))
			serve(Integer.parseInt(args[1]));
		InetSocketAddress to = new InetSocketAddress(args[1], Integer.parseInt(args[2]));
		int messages = Integer.parseInt(args[3]);
		System.out.println(ask(to, messages, false) + " " + ask(to, messages, true));
	}
}
